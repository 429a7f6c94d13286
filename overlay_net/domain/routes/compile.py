"""StaticRoutes x node -> the routes of that node.

Two objects with the same subnet, metric and table: the older one wins; the younger one is shown as refused, unless both
say the same, then the entry serves both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from overlay_net.domain.routes.protected_subnets import NOTHING, Protection
from overlay_net.domain.routes.rollout import PreviousGeneration
from overlay_net.model.kernel import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.static_route import StaticRoute

NONE_HELD_BACK: Mapping[str, PreviousGeneration] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NodeRoutes:
    """spec.routes and spec.generations of one node."""

    routes: tuple[DesiredRoute, ...] = ()
    generations: tuple[RouteGeneration, ...] = ()


def refusal(route: StaticRoute, protection: Protection) -> tuple[str, str] | None:
    """Reason and message of a StaticRoute that applies to no node at all."""
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
    kept: Mapping[str, PreviousGeneration] = NONE_HELD_BACK,
) -> NodeRoutes:
    """The routes of ``node``, sorted, one entry for each (subnet, metric, table), and of which generation they are.

    A route without a gateway of its own goes through ``overlay_gateway``; while the node has none, or one of the other
    IP family, the entry has no gateways and the agent reports it as waiting. ``kept``: StaticRoutes, by name, whose
    present generation is not for this node yet.
    """
    chosen: dict[tuple[int, int, int, int, int], DesiredRoute] = {}
    generations = []
    for route in sorted(static_routes, key=lambda route: route.age_key):
        if route.deleting or not route.selects(node) or refusal(route, protection):
            continue
        old = kept.get(route.name)
        if old is not None:
            entries: Iterable[DesiredRoute] = (each for each in old.routes if not protection.refusal(each.subnet))
        else:
            entries = (route.route_to(subnet, overlay_gateway) for subnet in route.subnets)
        own = False
        for entry in entries:
            subnet = entry.subnet
            key = (subnet.version, int(subnet.network_address), subnet.prefixlen, entry.metric, entry.table)
            own |= chosen.setdefault(key, entry) is entry
        generation = _generation(route, old, own=own)
        if generation is not None:
            generations.append(generation)
    generations.sort(key=lambda each: each.static_route)
    return NodeRoutes(tuple(chosen[key] for key in sorted(chosen)), tuple(generations))


def _generation(route: StaticRoute, old: PreviousGeneration | None, *, own: bool) -> RouteGeneration | None:
    """``own``: some routes of the node are its; without any there is nothing to prove."""
    if old is not None:
        return old.generation
    probe = route.probe if own else None
    if probe is None and route.rollout is None:
        return None
    return RouteGeneration(route.name, route.uid, route.generation, probe)
