"""What a wished route is to be in the kernel of this node: over which links its gateways are reached, from where."""

from dataclasses import dataclass
from typing import Final

from overlay_net.domain.kernel.gateway_selection import active_gateways
from overlay_net.domain.kernel.ownership import owns_route
from overlay_net.model.desired_route import DesiredRoute, Gateway
from overlay_net.model.kernel import Desired, Link, Observed, OwnershipMark
from overlay_net.model.net import IpAddress, IpInterface, IpNetwork
from overlay_net.model.route import MAIN_TABLE, NextHop, Route
from overlay_net.model.route_key import decode_version

SUBNET: Final = "{subnet}"


class OnLink:
    """Which link reaches an address directly: that of the most specific subnet, and among equals the overlay link.

    Somebody else's link in the overlay subnet must not draw our routes to it, whichever the kernel had first.
    """

    def __init__(self, observed: Observed, link: Link | None, address: IpInterface | None) -> None:
        up = {each.index for each in observed.links if each.up}
        subnets = [(each.interface.network, each.link) for each in observed.addresses if each.link in up]
        if link is not None and address is not None:
            # The plan puts the address there, and the link up, before any route.
            subnets.append((address.network, link.index))
        own = link.index if link is not None else None
        self._subnets = sorted(set(subnets), key=lambda subnet: (-subnet[0].prefixlen, subnet[1] != own, subnet[1]))
        self._found: dict[IpAddress, int | None] = {}

    def parse_link(self, gateway: IpAddress) -> int | None:
        if gateway not in self._found:
            self._found[gateway] = next((link for subnet, link in self._subnets if gateway in subnet), None)
        return self._found[gateway]


class Surroundings:
    """What the next hops of a node are found from."""

    def __init__(self, desired: Desired, observed: Observed, mark: OwnershipMark, link: Link | None) -> None:
        self.down = desired.down
        self.mark = mark
        self.address = desired.address
        self.overlay = link
        """The overlay link, where it exists already."""
        self.on_link = OnLink(observed, link, desired.address)
        self.off_link = link or next((each for each in observed.links if each.name == desired.interface), None)
        """Where a gateway is that no subnet contains, for a route that says it is on the link all the same."""
        self.fallback = fallback_gateway(observed, desired.fallback, mark) if desired.fallback else None
        """Gateway of routes without one, on a node without overlay address."""

    def next_hop(self, gateway: Gateway, like: DesiredRoute, *, alone: bool) -> NextHop | None:
        """None where no link reaches the gateway."""
        index = self.on_link.parse_link(gateway.address)
        weight = 1 if alone else gateway.weight
        if index is not None:
            return NextHop(gateway.address, index, weight)
        if like.spec.on_link and self.off_link is not None:
            return NextHop(gateway.address, self.off_link.index, weight, on_link=True)
        return None

    def source_of(self, hops: tuple[NextHop, ...], version: int) -> IpAddress | None:
        """The overlay address, for routes over the overlay."""
        overlay, address = self.overlay, self.address
        if overlay is None or address is None or address.version != version:
            return None
        # Not for a gateway of the node's private network, where the overlay address is on that very interface.
        through = all(
            hop.link == overlay.index and (hop.on_link or (hop.gateway is not None and hop.gateway in address.network))
            for hop in hops
        )
        return address.ip if through else None


@dataclass(frozen=True, slots=True)
class Wanted:
    route: Route
    """For the subnet of any of the wishes."""
    degraded: bool
    """No gateway is alive, and the route says so to whoever uses it."""


@dataclass(frozen=True, slots=True)
class Refused:
    reason: str
    message: str
    """May name the wish's subnet, as SUBNET."""
    withdrawn: bool = False
    """What the kernel has for it goes."""


def decide(like: DesiredRoute, node: Surroundings) -> Wanted | Refused:
    """What becomes of all the wishes that are like this one but for their subnet."""
    spec = like.spec
    active = active_gateways(spec, node.down)
    if active.kind is None:
        return Refused("GatewaysDown", f"{SUBNET} is withdrawn: no gateway is alive", withdrawn=True)
    metric, protocol = spec.metric, node.mark.protocol
    if active.kind != "unicast":
        rejecting = Route(like.subnet, (), protocol, metric, None, spec.table, active.kind)
        return Wanted(rejecting, degraded=active.kind != spec.kind)
    version = decode_version(like.key)
    gateways = active.gateways
    if not gateways and node.fallback is not None and node.fallback.version == version:
        gateways = (Gateway(node.fallback),)
    if not gateways:
        return Refused("NoGateway", f"{SUBNET} has no gateway, and this node has no overlay gateway")
    hops = []
    for gateway in gateways:
        hop = node.next_hop(gateway, like, alone=len(gateways) == 1)
        if hop is None:
            message = f"{gateway.address} is in no subnet of a link of this node; onLink: true would allow it"
            return Refused("GatewayNotOnLink", message)
        hops.append(hop)
    ways = tuple(sorted(hops, key=lambda hop: hop.order))
    source = node.source_of(ways, version)
    return Wanted(
        Route(like.subnet, ways, protocol, metric, source, spec.table, "unicast", spec.mtu, spec.advmss), degraded=False
    )


def fallback_gateway(observed: Observed, towards: IpNetwork, mark: OwnershipMark) -> IpAddress | None:
    """The gateway that the node uses already for a subnet: of its own route, or of the most specific one around it."""
    around = [
        route
        for route in observed.routes
        if route.table == MAIN_TABLE
        and not owns_route(route, mark)
        and decode_version(route.key) == towards.version
        and route.next_hops
        and route.next_hops[0].gateway is not None
        and towards.subnet_of(route.subnet)  # type: ignore[arg-type]
    ]
    best = min(around, key=lambda route: (-route.subnet.prefixlen, route.metric), default=None)
    return best.next_hops[0].gateway if best else None
