"""From the kernel's routes to the wished ones of one node."""

from dataclasses import dataclass

from overlay_net.domain.kernel.next_hops import SUBNET, Refused, Surroundings, Wanted, decide
from overlay_net.domain.kernel.ownership import owns_route
from overlay_net.domain.kernel.route_groups import RouteGroup, RouteGroups, group_routes
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, Problem, ReplaceRoute
from overlay_net.model.route import Route
from overlay_net.model.route_key import RouteKey


@dataclass(frozen=True, slots=True)
class RoutePlan:
    changes: tuple[AddRoute | ReplaceRoute, ...]
    deletions: tuple[DeleteRoute, ...]
    problems: tuple[Problem, ...]
    placed: tuple[tuple[DesiredRoute, str], ...]


def plan_routes(desired: Desired, observed: Observed, mark: OwnershipMark, link: Link | None) -> RoutePlan:
    """``link`` is the overlay link, where it exists already.

    A wished route that cannot be placed now keeps what the kernel has for its key: a dead route is better than one
    that leaks to the default gateway.
    """
    question = _Question(desired, observed, mark, link)
    route_groups: RouteGroups | None = None
    for asked, sorted_before, plan in _LAST:
        if asked.is_same(question):
            return plan
        if asked.desired.routes is desired.routes:
            route_groups = sorted_before
    if route_groups is None:
        route_groups = group_routes(desired.routes)
    plan = _plan(question, route_groups)
    _LAST[:] = [(question, route_groups, plan)]
    return plan


@dataclass(frozen=True, slots=True)
class _Question:
    desired: Desired
    observed: Observed
    mark: OwnershipMark
    link: Link | None

    def is_same(self, other: "_Question") -> bool:
        """Thousands of routes are not compared, only whether they are the very same values."""
        return (
            self.desired.routes is other.desired.routes
            and self.observed.routes is other.observed.routes
            and (self.mark, self.link) == (other.mark, other.link)
            and (self.observed.links, self.observed.addresses) == (other.observed.links, other.observed.addresses)
            and self.desired == other.desired
        )


_LAST: list[tuple[_Question, RouteGroups, RoutePlan]] = []
"""The last question and its answer: most looks at a kernel find nothing new. The answer depends on nothing else."""


def _plan(question: _Question, route_groups: RouteGroups) -> RoutePlan:
    desired, observed, mark = question.desired, question.observed, question.mark
    # Those of the source table are domain.source_plan's.
    apart = desired.source.place.table if desired.source is not None else None
    node = Surroundings(desired, observed, mark, question.link)
    comparison = _Comparison(observed, mark, apart)
    for wish in route_groups.repeated:
        comparison.problems.append(Problem("Duplicate", f"{wish.subnet} is wanted twice", wish))
    for alike in route_groups.alike:
        if apart is not None and alike.like.spec.table == apart:
            message = f"table {apart} is that of source routing: choose another table, or another source_table"
            decision: Wanted | Refused = Refused("SourceTable", message)
        else:
            decision = decide(alike.like, node)
        comparison.settle(alike, decision)
    return comparison.plan()


class _Comparison:
    def __init__(self, observed: Observed, mark: OwnershipMark, apart: int | None) -> None:
        self.changes: list[AddRoute | ReplaceRoute] = []
        self.problems: list[Problem] = []
        self.placed: list[tuple[DesiredRoute, str]] = []
        self._observed = observed
        self._ours = {route.key: route for route in observed.routes if owns_route(route, mark) and route.table != apart}
        """Those that no wish was found for yet; of two of one key, which IPv4 allows, the second one."""
        self._names = {each.index: each.name for each in observed.links}
        self._taken: dict[RouteKey, Route] | None = None

    def plan(self) -> RoutePlan:
        deletions = tuple(DeleteRoute(route) for route in self._ours.values())
        return RoutePlan(tuple(self.changes), deletions, tuple(self.problems), tuple(self.placed))

    def settle(self, alike: RouteGroup, decision: Wanted | Refused) -> None:
        if isinstance(decision, Wanted):
            self._compare(alike, decision)
            return
        reason, message = decision.reason, decision.message
        for wish in alike.route_groups:
            if not decision.withdrawn:
                self._ours.pop(wish.key, None)
            # A thousand subnets are slow to make, and few messages name them.
            told = message.format(subnet=wish.subnet) if SUBNET in message else message
            self.problems.append(Problem(reason, told, wish))

    def _compare(self, alike: RouteGroup, wanted: Wanted) -> None:
        route, ours = wanted.route, self._ours
        info = same = route.info
        link = self._names.get(info.next_hops[0].link, "") if info.next_hops else ""
        for wish in alike.route_groups:
            key = wish.key
            found = ours.pop(key, None)
            if found is None:
                self._add(wish, route.with_key(key))
            elif found.info is not same and found.info != info:
                self.changes.append(ReplaceRoute(route.with_key(key)))
            elif wanted.degraded:
                message = f"{wish.subnet} is {route.kind}: no gateway is alive"
                self.problems.append(Problem("GatewaysDown", message, wish))
            else:
                # Observed routes that are alike share this value: the next comparison is one of identity.
                same = found.info
                self.placed.append((wish, link))

    def _add(self, wish: DesiredRoute, route: Route) -> None:
        if self._taken is None:
            # Somebody may have put a route of the same key beside ours: ours is the one that counts.
            self._taken = {route.key: route for route in self._observed.routes}
        taken = self._taken.get(route.key)
        if taken is None:
            self.changes.append(AddRoute(route))
            return
        message = f"{wish.subnet} has a route of protocol {taken.protocol} already, which is not ours to change"
        self.problems.append(Problem("ForeignRoute", message, wish))
