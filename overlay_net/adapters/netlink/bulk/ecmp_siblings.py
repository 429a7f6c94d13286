"""Joins the next hops of IPv6 routes that a kernel before 4.11 dumps as separate messages."""

from collections.abc import Iterable

from overlay_net.model.route import Route


def join_siblings(routes: Iterable[Route]) -> list[Route]:
    """Join the next hops of each IPv6 ECMP route into one Route.

    Kernels before 4.11 dump each next hop of such a route as a separate message, one after the other. Routes of one key
    without a gateway are not ECMP but separate routes, one for each link (rt6_qualify_for_ecmp).
    """
    result: list[Route] = []
    for route in routes:
        previous = result[-1] if result else None
        if previous is not None and _are_siblings(previous, route):
            hops = tuple(sorted((*previous.next_hops, *route.next_hops), key=lambda hop: hop.order))
            result[-1] = previous.replace(next_hops=hops)
        else:
            result.append(route)
    return result


def _are_siblings(previous: Route, route: Route) -> bool:
    return (
        len(route.next_hops) == 1
        and bool(previous.next_hops)
        and route.kind == previous.kind == "unicast"
        and all(hop.gateway is not None for hop in (*previous.next_hops, *route.next_hops))
        and (route.protocol, route.key) == (previous.protocol, previous.key)
    )
