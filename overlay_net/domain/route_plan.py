"""Routes of one node: from gateways to next hops, and from the kernel's routes to the wished ones."""

from collections.abc import Iterable
from dataclasses import dataclass

from overlay_net.domain.ownership import owns_route
from overlay_net.model.kernel import (
    AddRoute,
    DeleteRoute,
    Desired,
    DesiredRoute,
    IpAddress,
    IpInterface,
    IpNetwork,
    Link,
    Marks,
    NextHop,
    Observed,
    Problem,
    ReplaceRoute,
    Route,
)

IPV6_DEFAULT_METRIC = 1024
"""What the kernel stores for an IPv6 route without a metric (IP6_RT_PRIO_USER)."""


@dataclass(frozen=True, slots=True)
class RoutePlan:
    changes: tuple[AddRoute | ReplaceRoute, ...]
    deletions: tuple[DeleteRoute, ...]
    problems: tuple[Problem, ...]
    placed: tuple[tuple[DesiredRoute, str], ...]


class OnLink:
    """Which link reaches an address directly: that of the most specific subnet around it."""

    def __init__(self, observed: Observed, link: Link | None, address: IpInterface | None) -> None:
        up = {each.index for each in observed.links if each.up}
        subnets = [(each.interface.network, each.link) for each in observed.addresses if each.link in up]
        if link is not None and address is not None:
            # The plan puts the address there, and the link up, before any route.
            subnets.append((address.network, link.index))
        self._subnets = sorted(set(subnets), key=lambda subnet: (-subnet[0].prefixlen, subnet[1]))

    def link_of(self, gateway: IpAddress) -> int | None:
        return next((link for subnet, link in self._subnets if gateway in subnet), None)


def plan_routes(desired: Desired, observed: Observed, marks: Marks, link: Link | None) -> RoutePlan:
    """``link`` is the overlay link, where it exists already.

    A wished route that cannot be placed now keeps what the kernel has for its key: a dead route is better than one
    that leaks to the default gateway.
    """
    # Somebody may have put a route of the same key beside ours: ours is the one that counts.
    present = {route.key: route for route in sorted(observed.routes, key=lambda route: owns_route(route, marks))}
    names = {each.index: each.name for each in observed.links}
    on_link = OnLink(observed, link, desired.address)
    changes: list[AddRoute | ReplaceRoute] = []
    problems: list[Problem] = []
    placed: list[tuple[DesiredRoute, str]] = []
    wanted_keys = set()
    for wish in desired.routes:
        resolved = _resolve(wish, on_link, desired, marks, link)
        if isinstance(resolved, Problem):
            problems.append(resolved)
            wanted_keys.add((wish.subnet, kernel_metric(wish), Route(wish.subnet, (), 0).table))
            continue
        if resolved.key in wanted_keys:
            problems.append(Problem("Duplicate", f"{wish.subnet} is wanted twice", wish))
            continue
        wanted_keys.add(resolved.key)
        found = present.get(resolved.key)
        if found is None:
            changes.append(AddRoute(resolved))
        elif not owns_route(found, marks):
            message = f"{wish.subnet} has a route of protocol {found.protocol} already, which is not ours to change"
            problems.append(Problem("ForeignRoute", message, wish))
        elif found != resolved:
            changes.append(ReplaceRoute(resolved))
        else:
            placed.append((wish, names.get(resolved.next_hops[0].link, "")))
    deletions = _unwanted(observed.routes, wanted_keys, marks)
    return RoutePlan(tuple(changes), tuple(deletions), tuple(problems), tuple(placed))


def _unwanted(routes: Iterable[Route], wanted: set[tuple[IpNetwork, int, int]], marks: Marks) -> list[DeleteRoute]:
    return [DeleteRoute(route) for route in routes if owns_route(route, marks) and route.key not in wanted]


def kernel_metric(wish: DesiredRoute) -> int:
    """The metric under which the kernel keeps the route."""
    return wish.metric or (IPV6_DEFAULT_METRIC if wish.subnet.version == 6 else 0)


def _resolve(wish: DesiredRoute, on_link: OnLink, desired: Desired, marks: Marks, link: Link | None) -> Route | Problem:
    if not wish.gateways:
        message = f"{wish.subnet} has no gateway, and this node has no overlay gateway"
        return Problem("NoGateway", message, wish)
    hops = []
    for gateway in wish.gateways:
        index = on_link.link_of(gateway)
        if index is None:
            return Problem("GatewayNotOnLink", f"{gateway} is in no subnet of a link of this node", wish)
        hops.append(NextHop(gateway, index))
    hops.sort(key=lambda hop: (int(hop.gateway) if hop.gateway else 0, hop.link))
    overlay = link is not None and desired.address is not None and all(hop.link == link.index for hop in hops)
    fits = overlay and desired.address is not None and desired.address.version == wish.subnet.version
    source = desired.address.ip if fits and desired.address else None
    return Route(wish.subnet, tuple(hops), marks.protocol, kernel_metric(wish), source)
