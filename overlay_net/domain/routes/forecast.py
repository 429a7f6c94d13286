"""What StaticRoutes would do if they were applied: for which node which route, and which are refused or lost.

The rules are those of the controller and of the agents: protected subnets, selection of nodes, and the merge of all
StaticRoutes of a node. What a rollout delays is shown as it is once it is complete.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from overlay_net.domain.routes.desired_entries import DesiredEntry
from overlay_net.domain.routes.merge import merge_routes
from overlay_net.domain.routes.outcome import conflict_outcome
from overlay_net.domain.routes.protected_subnets import RouteCheck, refusal
from overlay_net.model.conditions import ACCEPTED, find_condition
from overlay_net.model.desired_route import DesiredRoute, RouteSpec
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey, decode_subnet
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.model.static_route import StaticRoute

ADD: Final = "add"
CHANGE: Final = "change"
KEEP: Final = "keep"
REMOVE: Final = "remove"
SHARE: Final = "share"
"""An older StaticRoute has the same route already."""
CONFLICT: Final = "conflict"
REFUSE: Final = "refuse"
ORDER: Final = (REFUSE, CONFLICT, REMOVE, CHANGE, ADD, SHARE, KEEP)
"""What is wrong first."""


class PlannedNode(NamedTuple):
    """A node on which an agent runs."""

    node: Node
    overlay: NodeOverlay | None

    @property
    def gateway(self) -> IpAddress | None:
        """The gateway of routes that specify none, as the agent uses it."""
        if self.overlay is None:
            return None
        return self.overlay.report.fallback if self.overlay.routes_only else self.overlay.assignment.gateway


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens to one route of one StaticRoute on these nodes."""

    static_route: str
    action: str
    subnet: IpNetwork | None
    """None: the StaticRoute has no valid one."""
    spec: RouteSpec | None
    nodes: tuple[str, ...]
    message: str = ""

    @property
    def is_problem(self) -> bool:
        return self.action in (REFUSE, CONFLICT)


@dataclass(frozen=True, slots=True)
class Forecast:
    effects: tuple[Effect, ...]
    """What is wrong first, then by StaticRoute and subnet."""
    notes: tuple[str, ...]

    @property
    def has_problems(self) -> bool:
        return any(effect.is_problem for effect in self.effects)


def forecast(
    planned: Iterable[StaticRoute], present: Iterable[StaticRoute], nodes: Iterable[PlannedNode], check: RouteCheck
) -> Forecast:
    """``present`` are the StaticRoutes of the cluster; a planned one replaces that of its name."""
    view = _View(planned, present, check)
    found: dict[tuple[object, ...], tuple[Effect, list[str]]] = {}
    selected: set[str] = set()
    groups: dict[tuple[object, ...], list[PlannedNode]] = {}
    for each in nodes:
        groups.setdefault(view.group(each), []).append(each)
    for members in groups.values():
        names = [each.node.name for each in members]
        for effect in view.effects(members[0]):
            selected.add(effect.static_route)
            _, at = found.setdefault((effect.static_route, effect.action, effect.subnet, effect.message), (effect, []))
            at += names
    effects = [_at(effect, names) for effect, names in found.values()]
    effects += [effect for effect in view.refusals() if effect.static_route not in selected]
    notes = tuple(view.notes(selected, sum(map(len, groups.values()))))
    return Forecast(tuple(sorted(effects, key=_order)), notes)


def _at(effect: Effect, names: Iterable[str]) -> Effect:
    return Effect(effect.static_route, effect.action, effect.subnet, effect.spec, tuple(sorted(names)), effect.message)


def _order(effect: Effect) -> tuple[object, ...]:
    subnet = effect.subnet
    place = (subnet.version, int(subnet.network_address), subnet.prefixlen) if subnet is not None else (0, 0, 0)
    return ORDER.index(effect.action), effect.static_route, *place, effect.nodes


class _View:
    """The StaticRoutes that have a route of a planned one, as they are and as they would be."""

    def __init__(self, planned: Iterable[StaticRoute], present: Iterable[StaticRoute], check: RouteCheck) -> None:
        self._planned = {route.name: route for route in planned}
        before = {route.name: route for route in present if not route.deleting}
        self._refused = {route.name: refusal(route, check) for route in self._planned.values()}
        parsed = {
            name: _parse(route, refused=_is_refused(route)) for name, route in before.items() if not route.problem
        }
        accepted = {name: _parse(route) for name, route in self._planned.items() if self._refused[name] is None}
        keys: set[RouteKey] = set()
        for name in self._planned:
            keys.update(*(entries[name].keys for entries in (parsed, accepted) if name in entries))
        self._keys = keys
        self._before = {name: each for name, each in parsed.items() if not each.keys.isdisjoint(keys)}
        # Nodes keep what they have of a StaticRoute that is refused now.
        self._after = self._before | accepted

    def group(self, node: PlannedNode) -> tuple[object, ...]:
        """Return a value that is equal for nodes with the same effects."""
        selects = (
            tuple(name for name, each in entries.items() if each.route.selects(node.node))
            for entries in (self._before, self._after)
        )
        has = tuple(name for name in self._planned if self._has(name, node))
        return node.gateway, has, *selects

    def effects(self, node: PlannedNode) -> Iterator[Effect]:
        before = self._routes(self._before.values(), node)
        after = self._routes(self._after.values(), node)
        for name, route in self._planned.items():
            refused = self._refused[name]
            if refused is not None:
                if route.selects(node.node):
                    yield from self._refusal(route, refused, has=self._has(name, node))
                continue
            own = self._after[name]
            keys = own.keys if route.selects(node.node) else frozenset()
            for key in sorted(keys):
                yield self._effect(own.entry, key, before.get(key), after[key], node)
            yield from self._removals(name, keys, before, after)

    def _effect(
        self, entry: SliceEntry, key: RouteKey, before: DesiredRoute | None, after: DesiredRoute, node: PlannedNode
    ) -> Effect:
        subnet = decode_subnet(key)
        spec = entry.spec.with_default_gateway(subnet.version, node.gateway)
        if after.static_route != entry.name:
            if after.spec == spec:
                message = f"the older StaticRoute {after.static_route} has the same route"
                return Effect(entry.name, SHARE, subnet, spec, (), message)
            return Effect(entry.name, CONFLICT, subnet, spec, (), conflict_outcome(after.static_route, subnet).message)
        hint = "" if spec.gateways or spec.kind != "unicast" else "pending until the node has an overlay gateway"
        if before is None:
            return Effect(entry.name, ADD, subnet, spec, (), hint)
        if before.static_route != entry.name and before.spec != spec:
            message = f"the route of the younger StaticRoute {before.static_route} is replaced"
            # The other StaticRoute is not ready any more, on account of this one.
            return Effect(entry.name, CONFLICT, subnet, spec, (), message)
        return Effect(entry.name, KEEP if before.spec == spec else CHANGE, subnet, spec, (), hint)

    def _removals(
        self,
        name: str,
        keys: frozenset[RouteKey],
        before: Mapping[RouteKey, DesiredRoute],
        after: Mapping[RouteKey, DesiredRoute],
    ) -> Iterator[Effect]:
        """Yield the routes that the planned StaticRoute gives up."""
        for key, route in before.items():
            if route.static_route != name or key in keys:
                continue
            heir = after.get(key)
            if heir is None:
                yield Effect(name, REMOVE, decode_subnet(key), route.spec, ())
            else:
                message = f"StaticRoute {heir.static_route} has it then"
                yield Effect(name, CHANGE, decode_subnet(key), heir.spec, (), message)

    def refusals(self) -> Iterator[Effect]:
        """Yield those that are about no node."""
        for name, route in self._planned.items():
            refused = self._refused[name]
            if refused is not None:
                yield from self._refusal(route, refused, has=False)

    def _refusal(self, route: StaticRoute, refused: tuple[str, str], *, has: bool) -> Iterator[Effect]:
        message = f"{refused[0]}: {refused[1]}"
        if has:
            message += "; the node keeps the routes that it has of this StaticRoute"
        yield Effect(route.name, REFUSE, next(iter(route.subnets), None), None, (), message)

    def _has(self, name: str, node: PlannedNode) -> bool:
        """Return whether the node has routes of the StaticRoute as it is in the cluster."""
        before = self._before.get(name)
        return before is not None and not before.refused and before.route.selects(node.node)

    def _routes(self, entries: Iterable[DesiredEntry], node: PlannedNode) -> Mapping[RouteKey, DesiredRoute]:
        """Return the routes of a node with a key of a planned one."""
        applied = (each.entry for each in entries if not each.refused and each.route.selects(node.node))
        return {route.key: route for route in merge_routes(applied, node.gateway) if route.key in self._keys}

    def notes(self, selected: set[str], total: int) -> Iterator[str]:
        for name, route in self._planned.items():
            if route.problem or self._refused[name] is not None:
                continue
            if name not in selected:
                yield f"StaticRoute {name}: no node with an agent matches the zone label and nodeSelector"
            elif route.rollout is not None:
                limit = f"{route.rollout.amount}{'%' if route.rollout.percent else ''}"
                yield f"StaticRoute {name}: the change reaches at most {limit} unavailable nodes at a time"
        if not total:
            yield "no node runs an agent"


def _parse(route: StaticRoute, *, refused: bool = False) -> DesiredEntry:
    found = DesiredEntry.parse(route)
    found.refused = refused
    return found


def _is_refused(route: StaticRoute) -> bool:
    """Return whether the controller has refused the StaticRoute, so that no node gets it."""
    accepted = find_condition(route.conditions, ACCEPTED)
    return accepted is not None and accepted.status is False and accepted.reason != "Conflict"
