"""Routes of one node: from gateways to next hops, and from the kernel's routes to the wished ones."""

from collections.abc import Iterable
from dataclasses import dataclass

from overlay_net.domain.gateways import active_gateways
from overlay_net.domain.ownership import owns_route
from overlay_net.model.kernel import (
    MAIN_TABLE,
    AddRoute,
    DeleteRoute,
    Desired,
    DesiredRoute,
    Gateway,
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
    RouteKind,
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
        self._found: dict[IpAddress, int | None] = {}

    def link_of(self, gateway: IpAddress) -> int | None:
        if gateway not in self._found:
            self._found[gateway] = next((link for subnet, link in self._subnets if gateway in subnet), None)
        return self._found[gateway]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the next hops of a node are found from."""

    on_link: OnLink
    marks: Marks
    address: IpInterface | None
    overlay: Link | None
    """The overlay link, where it exists already."""
    off_link: Link | None
    """Where a gateway is that no subnet contains, for a route that says it is on the link all the same."""
    fallback: IpAddress | None
    """Gateway of routes without one, on a node without overlay address."""


def plan_routes(desired: Desired, observed: Observed, marks: Marks, link: Link | None) -> RoutePlan:
    """``link`` is the overlay link, where it exists already.

    A wished route that cannot be placed now keeps what the kernel has for its key: a dead route is better than one
    that leaks to the default gateway.
    """
    # Somebody may have put a route of the same key beside ours: ours is the one that counts.
    present = {route.key: route for route in sorted(observed.routes, key=lambda route: owns_route(route, marks))}
    names = {each.index: each.name for each in observed.links}
    around = Surroundings(
        on_link=OnLink(observed, link, desired.address),
        marks=marks,
        address=desired.address,
        overlay=link,
        off_link=link or next((each for each in observed.links if each.name == desired.interface), None),
        fallback=fallback_gateway(observed, desired.fallback, marks) if desired.fallback else None,
    )
    changes: list[AddRoute | ReplaceRoute] = []
    problems: list[Problem] = []
    placed: list[tuple[DesiredRoute, str]] = []
    wanted_keys = set()
    for wish in desired.routes:
        active = active_gateways(wish, desired.down)
        if active.kind is None:
            problems.append(Problem("GatewaysDown", f"{wish.subnet} is withdrawn: no gateway is alive", wish))
            continue
        key = kernel_key(wish)
        if key in wanted_keys:
            problems.append(Problem("Duplicate", f"{wish.subnet} is wanted twice", wish))
            continue
        wanted_keys.add(key)
        resolved = _resolve(wish, active.gateways, active.kind, around)
        if isinstance(resolved, Problem):
            problems.append(resolved)
            continue
        found = present.get(key)
        if found is None:
            changes.append(AddRoute(resolved))
        elif not owns_route(found, marks):
            message = f"{wish.subnet} has a route of protocol {found.protocol} already, which is not ours to change"
            problems.append(Problem("ForeignRoute", message, wish))
        elif found != resolved:
            changes.append(ReplaceRoute(resolved))
        elif active.kind != wish.kind:
            problems.append(Problem("GatewaysDown", f"{wish.subnet} is {active.kind}: no gateway is alive", wish))
        else:
            device = names.get(resolved.next_hops[0].link, "") if resolved.next_hops else ""
            placed.append((wish, device))
    deletions = _unwanted(observed.routes, wanted_keys, marks)
    return RoutePlan(tuple(changes), tuple(deletions), tuple(problems), tuple(placed))


def _unwanted(routes: Iterable[Route], wanted: set[tuple[IpNetwork, int, int]], marks: Marks) -> list[DeleteRoute]:
    return [DeleteRoute(route) for route in routes if owns_route(route, marks) and route.key not in wanted]


def kernel_key(wish: DesiredRoute) -> tuple[IpNetwork, int, int]:
    """The key under which the kernel keeps the route."""
    metric = wish.metric or (IPV6_DEFAULT_METRIC if wish.subnet.version == 6 else 0)
    return (wish.subnet, metric, wish.table)


def fallback_gateway(observed: Observed, towards: IpNetwork, marks: Marks) -> IpAddress | None:
    """The gateway that the node uses already for a subnet: of its own route, or of the most specific one around it."""
    around = [
        route
        for route in observed.routes
        if route.table == MAIN_TABLE
        and not owns_route(route, marks)
        and route.subnet.version == towards.version
        and route.next_hops
        and route.next_hops[0].gateway is not None
        and towards.subnet_of(route.subnet)  # type: ignore[arg-type]
    ]
    best = min(around, key=lambda route: (-route.subnet.prefixlen, route.metric), default=None)
    return best.next_hops[0].gateway if best else None


def _resolve(
    wish: DesiredRoute, gateways: tuple[Gateway, ...], kind: RouteKind, around: Surroundings
) -> Route | Problem:
    subnet, metric, table = kernel_key(wish)
    if kind != "unicast":
        return Route(subnet, (), around.marks.protocol, metric, None, table, kind)
    if not gateways and around.fallback is not None and around.fallback.version == subnet.version:
        gateways = (Gateway(around.fallback),)
    if not gateways:
        message = f"{subnet} has no gateway, and this node has no overlay gateway"
        return Problem("NoGateway", message, wish)
    hops = []
    for gateway in gateways:
        index = around.on_link.link_of(gateway.address)
        off_link = index is None and wish.on_link and around.off_link is not None
        if off_link and around.off_link is not None:
            index = around.off_link.index
        if index is None:
            message = f"{gateway.address} is in no subnet of a link of this node"
            return Problem("GatewayNotOnLink", f"{message}; onLink: true would allow it", wish)
        hops.append(NextHop(gateway.address, index, gateway.weight if len(gateways) > 1 else 1, off_link))
    hops.sort(key=lambda hop: (int(hop.gateway) if hop.gateway else 0, hop.link))
    over_link = around.overlay is not None and all(hop.link == around.overlay.index for hop in hops)
    own = around.address is not None and around.address.version == subnet.version
    source = around.address.ip if over_link and own and around.address else None
    return Route(subnet, tuple(hops), around.marks.protocol, metric, source, table, kind, wish.mtu, wish.advmss)
