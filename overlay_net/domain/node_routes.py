"""StaticRoutes x node -> the routes of that node.

Two objects with the same subnet, metric and table: the older one wins; the younger one is shown as refused, unless both
say the same, then the entry serves both.
"""

from collections.abc import Iterable

from overlay_net.domain.protection import NOTHING, Protection
from overlay_net.model.kernel import DesiredRoute, IpAddress
from overlay_net.model.node import Node
from overlay_net.model.static_route import StaticRoute


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
) -> tuple[DesiredRoute, ...]:
    """spec.routes of ``node``, sorted; one entry for each (subnet, metric, table).

    A route without a gateway of its own goes through ``overlay_gateway``; while the node has none, or one of the other
    IP family, the entry has no gateways and the agent reports it as waiting.
    """
    chosen: dict[tuple[int, int, int, int, int], DesiredRoute] = {}
    for route in sorted(static_routes, key=lambda route: route.age_key):
        if route.deleting or not route.selects(node) or refusal(route, protection):
            continue
        for subnet in route.subnets:
            key = (subnet.version, int(subnet.network_address), subnet.prefixlen, route.metric, route.table)
            if key not in chosen:
                chosen[key] = route.route_to(subnet, overlay_gateway)
    return tuple(chosen[key] for key in sorted(chosen))
