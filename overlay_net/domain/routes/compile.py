"""Compiles StaticRoutes into the routes of one node.

If several StaticRoutes have the same subnet, metric and table, the oldest one wins and the others report a conflict.
Identical entries are shared without a conflict.

A StaticRoute that overlaps a protected subnet adds no subnet to a node, but a subnet that the node already routes for
it stays: what is protected changes with every Node that joins, and must not withdraw routes that are in use.
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from overlay_net.domain.routes.protected_subnets import NOTHING, Protection, RouteCheck
from overlay_net.domain.routes.rollout import PreviousGeneration
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.node_actions import NodeRoutes
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.static_route import StaticRoute

NONE_HELD_BACK: Mapping[str, PreviousGeneration] = MappingProxyType({})


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
    present: Iterable[DesiredRoute] = (),
) -> NodeRoutes:
    """Return the routes of ``node``, sorted, with one entry for each key, and the generations that they come from.

    A route that specifies no gateway uses ``overlay_gateway``. If the node has none, or one of the other IP family, the
    entry has no gateways and the agent reports it as pending. ``held_back`` has, by name, the StaticRoutes whose
    current generation is not rolled out to this node yet. ``present`` are the routes that the node has.
    """
    selected = [each for each in static_routes if not each.deleting and not each.problem and each.selects(node)]
    in_place = _find_in_place(present, {route.name for route in selected if protection.refusal(route)})
    chosen: dict[RouteKey, DesiredRoute] = {}
    generations = []
    for route in sorted(selected, key=lambda route: route.age_key):
        previous = held_back.get(route.name)
        entries = _entries(route, previous, overlay_gateway, in_place.get(route.name))
        if entries is None:
            continue
        won = [chosen.setdefault(entry.key, entry) is entry for entry in entries]
        generation = _generation(route, previous, has_entries=any(won))
        if generation is not None:
            generations.append(generation)
    routes = sorted(chosen.values(), key=lambda entry: (entry.version, entry.key))
    return NodeRoutes(tuple(routes), tuple(sorted(generations, key=lambda each: each.static_route)))


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
