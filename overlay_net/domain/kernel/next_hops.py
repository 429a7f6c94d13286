"""Resolves the next hops of desired routes on this node: the links of their gateways, and the source address."""

from dataclasses import dataclass
from typing import Final

from overlay_net.domain.kernel.gateway_selection import active_gateways
from overlay_net.domain.kernel.ownership import owns_route
from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.kernel import Desired, Link, Observed, OwnershipMark
from overlay_net.model.net import IpAddress, IpInterface, IpNetwork
from overlay_net.model.route import MAIN_TABLE, NextHop, Route
from overlay_net.model.route_key import decode_version

SUBNET: Final = "{subnet}"
_FIX: Final = "correct the gateway, or set onLink: true if it is directly reachable"


@dataclass(frozen=True, slots=True)
class Resolved:
    route: Route
    """The kernel route for the destination of the requested route."""
    degraded: bool
    """All gateways are down, so the route rejects traffic as its StaticRoute specifies."""


@dataclass(frozen=True, slots=True)
class Refused:
    reason: str
    message: str
    """The message; SUBNET in it stands for the destination."""
    withdrawn: bool = False
    """Whether the route in the kernel is removed instead of kept."""


class NextHops:
    """Resolves the routes of one node."""

    def __init__(self, desired: Desired, observed: Observed, mark: OwnershipMark, link: Link | None) -> None:
        """``link`` is the overlay link, if it exists."""
        self._down = desired.down
        self._protocol = mark.protocol
        self._address = desired.address
        self._overlay = link
        self._links = _LinkLookup(observed, link, desired.address)
        self._off_link = link or next((each for each in observed.links if each.name == desired.interface), None)
        """The link for gateways that no subnet contains, for routes with ``on_link``."""
        self._fallback = fallback_gateway(observed, desired.fallback, mark) if desired.fallback else None
        """The gateway for routes without one, on a node without overlay address."""

    def resolve(self, desired: DesiredRoute) -> Resolved | Refused:
        """Return the kernel route for a desired one; valid for all routes of the same specification and IP version."""
        spec = desired.spec
        active = active_gateways(spec, self._down)
        if active.kind is None:
            return Refused("GatewaysDown", f"{SUBNET} is withdrawn: all of its gateways are down", withdrawn=True)
        if active.kind != "unicast":
            route = Route(desired.subnet, (), self._protocol, spec.metric, None, spec.table, active.kind)
            return Resolved(route, degraded=active.kind != spec.kind)
        gateways = active.gateways or self._fallback_gateways(desired.version)
        if not gateways:
            return Refused("NoGateway", f"{SUBNET} has no gateway, and this node has no overlay gateway")
        hops = []
        for gateway in gateways:
            hop = self._next_hop(gateway, spec, single=len(gateways) == 1)
            if hop is None:
                return Refused("GatewayNotOnLink", f"{gateway.address} is in no subnet of this node's links; {_FIX}")
            hops.append(hop)
        hops.sort(key=lambda hop: hop.order)
        return Resolved(self._unicast(desired, tuple(hops)), degraded=False)

    def _fallback_gateways(self, version: int) -> tuple[Gateway, ...]:
        if self._fallback is None or self._fallback.version != version:
            return ()
        return (Gateway(self._fallback),)

    def _next_hop(self, gateway: Gateway, spec: RouteSpec, *, single: bool) -> NextHop | None:
        """Return the next hop; None if the gateway is not on any link."""
        link = self._links.find(gateway.address)
        weight = 1 if single else gateway.weight
        if link is not None:
            return NextHop(gateway.address, link, weight)
        if spec.on_link and self._off_link is not None:
            return NextHop(gateway.address, self._off_link.index, weight, on_link=True)
        return None

    def _unicast(self, desired: DesiredRoute, hops: tuple[NextHop, ...]) -> Route:
        spec = desired.spec
        source = self._source(hops, desired.version)
        return Route(
            desired.subnet, hops, self._protocol, spec.metric, source, spec.table, mtu=spec.mtu, advmss=spec.advmss
        )

    def _source(self, hops: tuple[NextHop, ...], version: int) -> IpAddress | None:
        """Return the source address: the overlay address for routes through the overlay."""
        overlay, address = self._overlay, self._address
        if overlay is None or address is None or address.version != version:
            return None
        # With link_mode "address", gateways of the private network are on the same interface.
        through_overlay = all(
            hop.link == overlay.index and (hop.on_link or (hop.gateway is not None and hop.gateway in address.network))
            for hop in hops
        )
        return address.ip if through_overlay else None


class _LinkLookup:
    """Finds the link on which an address is directly reachable: that of the most specific subnet.

    Among equals the overlay link is preferred: a foreign link in the overlay subnet must not attract our routes.
    """

    def __init__(self, observed: Observed, link: Link | None, address: IpInterface | None) -> None:
        up = {each.index for each in observed.links if each.up}
        subnets = {(each.interface.network, each.link) for each in observed.addresses if each.link in up}
        if link is not None and address is not None:
            # The plan adds the address and sets the link up before any route.
            subnets.add((address.network, link.index))
        overlay = link.index if link is not None else None
        self._subnets = sorted(subnets, key=lambda subnet: (-subnet[0].prefixlen, subnet[1] != overlay, subnet[1]))
        self._found: dict[IpAddress, int | None] = {}

    def find(self, gateway: IpAddress) -> int | None:
        if gateway not in self._found:
            self._found[gateway] = next((link for subnet, link in self._subnets if gateway in subnet), None)
        return self._found[gateway]


def fallback_gateway(observed: Observed, subnet: IpNetwork, mark: OwnershipMark) -> IpAddress | None:
    """Return the gateway of the node's own route to a subnet: the most specific one that contains it."""
    candidates = [
        route
        for route in observed.routes
        if route.table == MAIN_TABLE
        and not owns_route(route, mark)
        and decode_version(route.key) == subnet.version
        and route.next_hops
        and route.next_hops[0].gateway is not None
        and subnet.subnet_of(route.subnet)  # type: ignore[arg-type]
    ]
    best = min(candidates, key=lambda route: (-route.subnet.prefixlen, route.metric), default=None)
    return best.next_hops[0].gateway if best else None
