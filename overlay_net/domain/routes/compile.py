"""Compiles StaticRoutes into the routes of one node.

If several StaticRoutes have the same subnet, metric and table, the oldest one wins and the others report a conflict.
Identical entries are shared without a conflict.

A StaticRoute that overlaps a protected subnet adds no subnet to a node, but a subnet that the node already routes for
it stays: what is protected changes with every Node that joins, and must not withdraw routes that are in use.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from overlay_net.domain.routes.capacity import ALWAYS_FITS, find_oversized, max_size
from overlay_net.domain.routes.protected_subnets import NOTHING, Protection, RouteCheck
from overlay_net.domain.routes.rollout import PreviousGeneration, previous_generation
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.node_actions import NodeRoutes
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.static_route import StaticRoute

NONE_HELD_BACK: Mapping[str, PreviousGeneration] = MappingProxyType({})
NO_ROUTES = NodeRoutes()

MAX_NAMED = 500
"""Maximum number of StaticRoutes in ``omitted``; in the schema, too."""


def refusal(route: StaticRoute, protection: RouteCheck) -> tuple[str, str] | None:
    """Return reason and message if ``route`` must not be added to any node, else None."""
    if route.problem:
        return "Invalid", route.problem
    return protection.refusal(route)


def compile_routes(
    static_routes: Iterable[StaticRoute],
    node: Node,
    overlay_gateway: IpAddress | None,
    protection: Protection = NOTHING,
    held_back: Mapping[str, PreviousGeneration] = NONE_HELD_BACK,
    present: NodeRoutes = NO_ROUTES,
) -> NodeRoutes:
    """Return the routes of ``node``, sorted, with one entry for each key, and the generations that they come from.

    A route that specifies no gateway uses ``overlay_gateway``. If the node has none, or one of the other IP family, the
    entry has no gateways and the agent reports it as pending. ``held_back`` has, by name, the StaticRoutes whose
    current generation is not rolled out to this node yet. ``present`` are the routes that the node has. A StaticRoute
    that does not fit into the node's object keeps its present routes there, if any: see ``capacity``.
    """
    selected = [each for each in static_routes if not each.deleting and not each.problem and each.selects(node)]
    selected.sort(key=lambda route: route.age_key)
    in_place = _find_in_place(present.routes, {route.name for route in selected if protection.refusal(route)})
    omitted: dict[str, PreviousGeneration] = {}
    while True:
        compiled, entries = _compile(selected, overlay_gateway, {**held_back, **omitted}, in_place)
        oversized = _find_oversized(selected, compiled, entries, present)
        if not oversized:
            return replace(compiled, omitted=tuple(sorted(omitted)[:MAX_NAMED]))
        # Other StaticRoutes may win the keys of these, so their sizes are compared again.
        omitted |= {name: previous_generation(name, present) for name in oversized}


def _compile(
    selected: Iterable[StaticRoute],
    overlay_gateway: IpAddress | None,
    held_back: Mapping[str, PreviousGeneration],
    in_place: Mapping[str, Collection[IpNetwork]],
) -> tuple[NodeRoutes, Mapping[str, Sequence[DesiredRoute]]]:
    """Return the routes and generations, and the entries of each StaticRoute; ``selected`` is ordered by age."""
    chosen: dict[RouteKey, DesiredRoute] = {}
    generations = []
    won = {}
    for route in selected:
        previous = held_back.get(route.name)
        entries = _entries(route, previous, overlay_gateway, in_place.get(route.name))
        if entries is None:
            continue
        won[route.name] = [entry for entry in entries if chosen.setdefault(entry.key, entry) is entry]
        generation = _generation(route, previous, has_entries=bool(won[route.name]))
        if generation is not None:
            generations.append(generation)
    routes = sorted(chosen.values(), key=lambda entry: (entry.version, entry.key))
    return NodeRoutes(tuple(routes), tuple(sorted(generations, key=lambda each: each.static_route))), won


def _find_oversized(
    selected: Iterable[StaticRoute],
    compiled: NodeRoutes,
    entries: Mapping[str, Sequence[DesiredRoute]],
    present: NodeRoutes,
) -> tuple[str, ...]:
    """Return the StaticRoutes whose entries do not fit into the object of the node."""
    if len(compiled.routes) <= ALWAYS_FITS:
        return ()
    probed = {route.name for route in selected if route.probe is not None}
    before: defaultdict[str, list[DesiredRoute]] = defaultdict(list)
    for entry in present.routes:
        before[entry.static_route].append(entry)
    return find_oversized(
        {name: max_size(each, probed=name in probed) for name, each in entries.items()},
        {name: max_size(each, probed=name in probed) for name, each in before.items()},
    )


def _entries(
    route: StaticRoute,
    previous: PreviousGeneration | None,
    overlay_gateway: IpAddress | None,
    in_place: Collection[IpNetwork] | None,
) -> Iterable[DesiredRoute] | None:
    """Return the entries of one StaticRoute, before conflicts are resolved; None if it does not apply to the node.

    ``in_place`` are the subnets to which a refused StaticRoute is restricted.
    """
    entries = previous.routes if previous is not None else route.routes(overlay_gateway)
    if in_place is None:
        return entries
    return [entry for entry in entries if entry.subnet in in_place] or None


def _find_in_place(
    present: Iterable[DesiredRoute], static_routes: Iterable[str]
) -> Mapping[str, Collection[IpNetwork]]:
    """Return the subnets that a node already routes for each of the StaticRoutes."""
    found: dict[str, set[IpNetwork]] = {name: set() for name in static_routes}
    for entry in present if found else ():
        if entry.static_route in found:
            found[entry.static_route].add(entry.subnet)
    return found


def _generation(
    route: StaticRoute, previous: PreviousGeneration | None, *, has_entries: bool
) -> RouteGeneration | None:
    """Return the generation of a StaticRoute; None without entries on the node, as there is nothing to probe."""
    if previous is not None:
        return previous.generation
    probe = route.probe if has_entries else None
    if probe is None and route.rollout is None:
        return None
    return RouteGeneration(route.name, route.uid, route.generation, probe)
