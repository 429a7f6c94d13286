"""Compiles StaticRoutes into the routes of one node.

If several StaticRoutes have the same subnet, metric and table, the oldest one wins and the others report a conflict.
Identical entries are shared without a conflict.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from overlay_net.domain.routes.protected_subnets import NOTHING, Protection
from overlay_net.domain.routes.rollout import PreviousGeneration
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import NodeRoutes
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.static_route import StaticRoute

NONE_HELD_BACK: Mapping[str, PreviousGeneration] = MappingProxyType({})


def refusal(route: StaticRoute, protection: Protection) -> tuple[str, str] | None:
    """Return reason and message if ``route`` is rejected on every node, else None."""
    if route.problem:
        return "Invalid", route.problem
    for subnet in route.subnets:
        overlap = protection.refusal(subnet)
        if overlap:
            return "Protected", overlap
    return None


def compile_routes(
    static_routes: Iterable[StaticRoute],
    node: Node,
    overlay_gateway: IpAddress | None,
    protection: Protection = NOTHING,
    held_back: Mapping[str, PreviousGeneration] = NONE_HELD_BACK,
) -> NodeRoutes:
    """Return the routes of ``node``, sorted, with one entry for each key, and the generations that they come from.

    A route that specifies no gateway uses ``overlay_gateway``. If the node has none, or one of the other IP family, the
    entry has no gateways and the agent reports it as pending. ``held_back`` has, by name, the StaticRoutes whose
    current generation is not rolled out to this node yet.
    """
    chosen: dict[RouteKey, DesiredRoute] = {}
    generations = []
    for route in sorted(static_routes, key=lambda route: route.age_key):
        if route.deleting or not route.selects(node) or refusal(route, protection):
            continue
        previous = held_back.get(route.name)
        entries = _entries(route, previous, overlay_gateway, protection)
        won = [chosen.setdefault(entry.key, entry) is entry for entry in entries]
        generation = _generation(route, previous, has_entries=any(won))
        if generation is not None:
            generations.append(generation)
    routes = sorted(chosen.values(), key=lambda entry: (entry.version, entry.key))
    return NodeRoutes(tuple(routes), tuple(sorted(generations, key=lambda each: each.static_route)))


def _entries(
    route: StaticRoute, previous: PreviousGeneration | None, overlay_gateway: IpAddress | None, protection: Protection
) -> Iterable[DesiredRoute]:
    """Return the entries of one StaticRoute, before conflicts are resolved."""
    if previous is not None:
        return (entry for entry in previous.routes if not protection.refusal(entry.subnet))
    return route.routes(overlay_gateway)


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
