"""What one node must have and has, route by route: from which StaticRoute, and why a StaticRoute has none.

By the rules of the agent's merge and of the status of StaticRoutes; a report lists only routes with a problem.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from overlay_net.domain.routes.entry_keys import find_key, find_keys
from overlay_net.domain.routes.merge import Selection, entry_routes, merge_routes, select_entries
from overlay_net.domain.routes.node_status import NodeRoute
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.occurrences import Occurrences
from overlay_net.domain.routes.outcome import (
    FAILED,
    NOT_NEEDED,
    NOT_REPORTED,
    PENDING,
    UNLISTED,
    Outcome,
    conflict_outcome,
)
from overlay_net.model.conditions import ACCEPTED, find_condition
from overlay_net.model.desired_route import DesiredRoute, RouteSpec
from overlay_net.model.net import IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.node_report import GATEWAY_DOWN
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_slice import RouteSlice, by_set
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.model.static_route import StaticRoute

IN_PLACE: Final = "InPlace"
CONFLICT: Final = "Conflict"
"""An older StaticRoute has another route of the same key."""
SHARED: Final = "Shared"
"""An older StaticRoute has the same route."""
REFUSED: Final = "Refused"
ORDER: Final = (FAILED, REFUSED, CONFLICT, PENDING, IN_PLACE, SHARED, NOT_NEEDED)
"""The states, what is wrong first."""


@dataclass(frozen=True, slots=True)
class ListedRoute:
    """One route of one StaticRoute on one node."""

    subnet: IpNetwork | None
    """None: the StaticRoute has no valid one."""
    spec: RouteSpec
    """With the overlay gateway, if the StaticRoute specifies none."""
    static_route: str
    state: str
    message: str = ""

    @property
    def is_problem(self) -> bool:
        return self.state in (FAILED, REFUSED, CONFLICT, PENDING)


@dataclass(frozen=True, slots=True)
class NodeListing:
    overlay: NodeOverlay
    routes: tuple[ListedRoute, ...]
    """What is wrong first, then by subnet."""
    notes: tuple[str, ...]
    """What is not about a single route."""


def list_routes(
    node: Node, overlay: NodeOverlay, slices: Iterable[RouteSlice], static_routes: Iterable[StaticRoute]
) -> NodeListing:
    """``slices`` are at least those of the sets of the node."""
    present = [each for each in slices if each.is_member and each.intact]
    selection = select_entries(overlay.route_sets or (), by_set(present))
    known = {route.name: route for route in static_routes}
    lister = _Lister(NodeTable.index(node, overlay), selection, known, present)
    routes = sorted(lister.list(), key=_order)
    return NodeListing(overlay, tuple(routes), tuple(_notes(overlay, selection)))


def _order(route: ListedRoute) -> tuple[object, ...]:
    subnet = route.subnet
    place = (subnet.version, int(subnet.network_address), subnet.prefixlen) if subnet is not None else (0, 0, 0)
    return ORDER.index(route.state), *place, route.static_route


def _notes(overlay: NodeOverlay, selection: Selection) -> Iterator[str]:
    if overlay.deleting:
        yield "the NodeOverlayIp is being deleted: the agent removes all routes"
    for route_set, absent in selection.missing.items():
        yield f"OverlayRouteSlice {absent} is missing or was edited; the routes of its set {route_set} stay as they are"
    for each in overlay.withdrawn:
        yield f"StaticRoute {each.static_route}: the agent has not confirmed that its routes are removed"
    if not overlay.has_own_report:
        yield "no report of the agent about this node counts: the states are those before it has reported"


class _Lister:
    def __init__(
        self,
        table: NodeTable,
        selection: Selection,
        static_routes: Mapping[str, StaticRoute],
        slices: Iterable[RouteSlice],
    ) -> None:
        self._table = table
        self._static_routes = static_routes
        self._entries = selection.entries
        own = frozenset[RouteKey]().union(*map(find_keys, selection.entries.values()))
        self._retained = {
            key: each for each in reversed(selection.retained) for key in find_keys(each) if key not in own
        }
        self._occurrences = Occurrences()
        for each in slices:
            self._occurrences.update(each.name, each)
        if table.overlay.route_sets is None:
            # Written by an earlier version of the controller.
            self._routes = table.overlay.routes
        else:
            self._routes = merge_routes(selection.applied, table.overlay_gateway)

    def list(self) -> Iterator[ListedRoute]:
        winners = {route.key: route for route in self._routes}
        yield from map(self._desired, self._routes)
        for entry in self._entries.values():
            yield from self._lost(entry, winners)
        own = (route for route in self._routes if route.key not in self._retained)
        listed = {route.static_route for route in own} | self._entries.keys()
        for static_route in self._static_routes.values():
            if static_route.name not in listed and not static_route.deleting and static_route.selects(self._table.node):
                yield from self._absent(static_route)

    def _desired(self, route: DesiredRoute) -> ListedRoute:
        outcome = self._find_outcome(route)
        return ListedRoute(route.subnet, self._shown(route), route.static_route, outcome.state, outcome.message)

    def _find_outcome(self, route: DesiredRoute) -> Outcome:
        table, name = self._table, route.static_route
        failure, not_needed = table.failures.get(route.key), table.not_needed.get(name)
        if failure is not None:
            state = PENDING if failure.reason == PENDING else FAILED
            return Outcome(state, f"{failure.reason}: {failure.message}")
        if not_needed is not None:
            return Outcome(NOT_NEEDED, not_needed.message)
        retained = self._retained.get(route.key)
        if retained is not None:
            message = "retained until the nodes have the route from another StaticRoute"
            return Outcome(IN_PLACE, f"of generation {retained.generation}, {message}")
        if not self._is_observed(name):
            return Outcome(PENDING, table.unknown_sets) if table.unknown_sets else NOT_REPORTED
        if table.has_unlisted_failures:
            return UNLISTED
        return Outcome(IN_PLACE, "; ".join((*self._describe_gateways(route.spec), *self._describe_revision(name))))

    def _is_observed(self, static_route: str) -> bool:
        """Return whether the report is about the entry that the route is from."""
        entry = self._entries.get(static_route)
        if entry is None:
            return self._table.is_current
        found = [each.slice for each in self._occurrences.of_route(static_route) if each.entry == entry]
        return any(self._table.observed.get(name, -1) >= entry.slice_generation for name in found)

    def _describe_gateways(self, spec: RouteSpec) -> Iterator[str]:
        for gateway in spec.gateways:
            reason = self._table.silent.get(gateway.address)
            if reason is not None:
                yield f"gateway {gateway.address} is not used ({reason or GATEWAY_DOWN})"

    def _describe_revision(self, static_route: str) -> Iterator[str]:
        entry, latest = self._entries.get(static_route), self._static_routes.get(static_route)
        if entry is not None and latest is not None and entry.generation < latest.generation:
            yield f"generation {entry.generation}; generation {latest.generation} has not reached this node yet"

    def _shown(self, route: DesiredRoute) -> RouteSpec:
        return route.spec.with_default_gateway(route.version, self._table.default_gateway)

    def _lost(self, entry: SliceEntry, winners: Mapping[RouteKey, DesiredRoute]) -> Iterator[ListedRoute]:
        """Yield the routes of a StaticRoute that an older one has."""
        for route in entry_routes(entry, self._table.overlay_gateway):
            winner = winners[find_key(entry, route.subnet)]
            if winner.static_route == entry.name:
                continue
            conflict = conflict_outcome(winner.static_route, route.subnet)
            if winner.spec == route.spec:
                message = f"the older StaticRoute {winner.static_route} has the same route"
                yield ListedRoute(route.subnet, self._shown(route), entry.name, SHARED, message)
            else:
                yield ListedRoute(route.subnet, self._shown(route), entry.name, CONFLICT, conflict.message)

    def _absent(self, route: StaticRoute) -> Iterator[ListedRoute]:
        """Yield the routes of a StaticRoute that selects the node, which has none of them."""
        outcome = self._find_absence(route)
        for subnet in route.subnets or (None,):
            spec = route.spec if subnet is None else route.spec_for(subnet.version, self._table.default_gateway)
            yield ListedRoute(subnet, spec, route.name, outcome.state, outcome.message)

    def _find_absence(self, route: StaticRoute) -> Outcome:
        if route.problem:
            return Outcome(REFUSED, f"Invalid: {route.problem}")
        accepted = find_condition(route.conditions, ACCEPTED)
        if accepted is not None and accepted.status is False and accepted.reason != CONFLICT:
            return Outcome(REFUSED, f"{accepted.reason}: {accepted.message}")
        return NodeRoute(route, self._occurrences, None).outcome(self._table)
