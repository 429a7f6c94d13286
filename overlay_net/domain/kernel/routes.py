"""Plans the changes from the observed to the desired routes of one node."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from overlay_net.domain.kernel.adoption import explain_foreign, find_adopted
from overlay_net.domain.kernel.next_hops import NextHops, NotNeeded, Refused, Resolved
from overlay_net.domain.kernel.route_groups import RouteGroup, RouteGroups, group_routes
from overlay_net.domain.kernel.same_key import delete_hops, extra_hops, find_managed
from overlay_net.domain.kernel.source_tables import source_tables
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, LinkFault, Problem, ReplaceRoute
from overlay_net.model.route import Route
from overlay_net.model.route_key import RouteKey

FOREIGN_ROUTE: Final = "ForeignRoute"
"""Problem reason for a route that is not managed by us in the place of a desired one."""


@dataclass(frozen=True, slots=True)
class RoutePlan:
    changes: tuple[AddRoute | ReplaceRoute, ...]
    deletions: tuple[DeleteRoute, ...]
    problems: tuple[Problem, ...]
    placed: tuple[tuple[DesiredRoute, str], ...]
    not_needed: tuple[tuple[DesiredRoute, str], ...]
    link_faults: tuple[LinkFault, ...]


@dataclass(frozen=True, slots=True)
class _Inputs:
    desired: Desired
    observed: Observed
    link: Link | None

    def same(self, other: "_Inputs") -> bool:
        """Compare routes by identity, because comparing thousands by value would take longer than a plan."""
        return (
            self.desired.routes is other.desired.routes
            and self.observed.routes is other.observed.routes
            and self.link == other.link
            and (self.observed.links, self.observed.addresses) == (other.observed.links, other.observed.addresses)
            and self.desired == other.desired
        )


class RoutePlanner:
    """Plans the routes of one node, and returns the last plan if its inputs are unchanged.

    Most passes find nothing new. The plan depends only on the arguments.
    """

    def __init__(self, mark: OwnershipMark) -> None:
        self._mark = mark
        self._last: tuple[_Inputs, RouteGroups, RoutePlan] | None = None

    def plan(self, desired: Desired, observed: Observed, link: Link | None) -> RoutePlan:
        """``link`` is the overlay link, if it exists.

        If a desired route cannot be installed now, the kernel's route with its key is kept: a dead route is better than
        traffic that leaks to the default gateway.
        """
        inputs = _Inputs(desired, observed, link)
        groups = None
        if self._last is not None:
            last_inputs, last_groups, last_plan = self._last
            if inputs.same(last_inputs):
                return last_plan
            if desired.routes is last_inputs.desired.routes:
                groups = last_groups
        groups = groups or group_routes(desired.routes)
        plan = _plan_groups(inputs, groups, self._mark)
        self._last = (inputs, groups, plan)
        return plan


def _plan_groups(inputs: _Inputs, groups: RouteGroups, mark: OwnershipMark) -> RoutePlan:
    desired, observed = inputs.desired, inputs.observed
    reserved_tables = source_tables(desired)
    next_hops = NextHops(desired, observed, mark, inputs.link)
    comparison = _Comparison(observed, mark, reserved_tables, keeps=desired.keeps_routes)
    for adopted in find_adopted(desired.adoptable, observed.routes, inputs.link):
        comparison.adopt(adopted)
    for route in groups.duplicates:
        comparison.problems.append(Problem("Duplicate", "specified twice", route))
    for group in groups.groups:
        table = group.first.spec.table
        if table in reserved_tables:
            settings = "source_table or private_source_table"
            message = f"table {table} is used by source routing; choose another table, or another {settings}"
            comparison.refuse(group, Refused("SourceTable", message))
            continue
        resolved = next_hops.resolve(group.first)
        match resolved:
            case Resolved():
                comparison.compare(group, resolved)
            case Refused():
                comparison.refuse(group, resolved)
            case NotNeeded(message):
                # The route of an earlier gateway stays among the managed ones, and is deleted with them.
                comparison.not_needed += ((route, message) for route in group.routes)
    return comparison.plan(next_hops.faults)


class _Comparison:
    """Compares groups of desired routes with the observed ones, and collects what differs."""

    def __init__(
        self, observed: Observed, mark: OwnershipMark, reserved_tables: Collection[int], *, keeps: bool
    ) -> None:
        """``keeps``: as ``Desired.keeps_routes``."""
        self.changes: list[AddRoute | ReplaceRoute] = []
        self.problems: list[Problem] = []
        self.placed: list[tuple[DesiredRoute, str]] = []
        self.not_needed: list[tuple[DesiredRoute, str]] = []
        self._observed = observed
        self._keeps = keeps
        found = find_managed(observed.routes, mark, reserved_tables)
        self._managed = found.usable
        """Managed routes without a matching desired route so far."""
        self._blocked = dict(found.blocked)
        """The same, for those that must not be replaced."""
        self._deletions = [DeleteRoute(route) for route in found.surplus]
        self._surplus = {route.key for route in found.surplus}
        self._link_names = {each.index: each.name for each in observed.links}
        self._by_key: dict[RouteKey, Route] | None = None

    def adopt(self, route: Route) -> None:
        """Treat a route without our mark as managed: it is replaced, or deleted if it is not desired."""
        self._managed.setdefault(route.key, route)

    def plan(self, link_faults: tuple[LinkFault, ...]) -> RoutePlan:
        obsolete = (*self._managed.values(), *(each.route for each in self._blocked.values()))
        deletions = (*self._deletions, *map(DeleteRoute, obsolete))
        return RoutePlan(
            changes=tuple(self.changes),
            deletions=() if self._keeps else deletions,
            problems=tuple(self.problems),
            placed=tuple(self.placed),
            not_needed=tuple(self.not_needed),
            link_faults=link_faults,
        )

    def refuse(self, group: RouteGroup, refused: Refused) -> None:
        """Keep the routes of the kernel, unless the group is withdrawn."""
        if not refused.withdrawn:
            for route in group.routes:
                self._managed.pop(route.key, None)
                self._blocked.pop(route.key, None)
        self.problems += (Problem(refused.reason, refused.message, route) for route in group.routes)

    def compare(self, group: RouteGroup, resolved: Resolved) -> None:
        """Find each route of the group in the kernel by its key."""
        target, managed = resolved.route, self._managed
        info = same = target.info
        link = self._link_names.get(info.next_hops[0].link, "") if info.next_hops else ""
        for route in group.routes:
            key = route.key
            found = managed.pop(key, None)
            if found is None:
                self._add(route, target.with_key(key))
            elif found.info is not same and found.info != info:
                self._replace(route, found, target.with_key(key))
            elif resolved.degraded:
                message = f"{target.kind}: all of its gateways are down"
                self.problems.append(Problem("GatewaysDown", message, route))
            else:
                # Observed routes share their info, so the next comparison is by identity.
                same = found.info
                self.placed.append((route, link))

    def _replace(self, desired: DesiredRoute, found: Route, route: Route) -> None:
        if route.key in self._surplus:
            # Next time: the kernel refuses a route that equals another one with its key (EEXIST).
            return
        extra = extra_hops(found, route)
        if not extra:
            self.changes.append(ReplaceRoute(route))
            return
        self._deletions.append(delete_hops(found, extra))
        gateways = ", ".join(str(hop.gateway) for hop in extra)
        message = f"the route has next hops that are not managed by us: {gateways}"
        self.problems.append(Problem("ForeignRoute", message, desired))

    def _add(self, desired: DesiredRoute, route: Route) -> None:
        blocked = self._blocked.pop(route.key, None)
        if blocked is not None:
            message = f"there is also a route of protocol {blocked.foreign.protocol} with the same metric"
            self.problems.append(Problem("ForeignRoute", f"{message}, which the kernel uses instead of ours", desired))
            return
        if self._by_key is None:
            self._by_key = {each.key: each for each in self._observed.routes}
        foreign = self._by_key.get(route.key)
        if foreign is None:
            self.changes.append(AddRoute(route))
            return
        message = explain_foreign(route, foreign, self._link_names)
        self.problems.append(Problem(FOREIGN_ROUTE, message, desired))
