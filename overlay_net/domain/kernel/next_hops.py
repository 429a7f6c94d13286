"""Resolves the next hops of desired routes on this node: the links of their gateways, and the source address."""

from collections.abc import Sequence
from dataclasses import dataclass

from overlay_net.domain.kernel.gateway_selection import active_gateways, own_addresses
from overlay_net.domain.kernel.link_lookup import LinkLookup, Reach
from overlay_net.domain.kernel.ownership import owns_route
from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.kernel import Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import LinkFault
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.route import MAIN_TABLE, NextHop, Route
from overlay_net.model.route_key import decode_version


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
    withdrawn: bool = False
    """Whether the route in the kernel is removed instead of kept."""


@dataclass(frozen=True, slots=True)
class NotNeeded:
    """This node is the gateway, so it must not have the route."""

    message: str


class NextHops:
    """Resolves the routes of one node."""

    def __init__(self, desired: Desired, observed: Observed, mark: OwnershipMark, link: Link | None) -> None:
        """``link`` is the overlay link, if it exists."""
        self._down = desired.down
        self._held = desired.held
        self._own = own_addresses(desired.address, observed)
        self._protocol = mark.protocol
        self._address = desired.address
        self._overlay = link
        self._links = LinkLookup(desired, observed, link)
        self._faults: dict[IpAddress | None, LinkFault] = {}
        if link is not None and desired.address is not None:
            self._record_fault(None, self._links.reach(link))
        self._fallback = fallback_gateway(observed, desired.fallback, mark) if desired.fallback else None
        """The gateway for routes without one, on a node without overlay address."""

    @property
    def faults(self) -> tuple[LinkFault, ...]:
        """The gateways of the resolved routes, standbys included, that are on no link that can carry traffic."""
        return tuple(self._faults.values())

    def resolve(self, desired: DesiredRoute) -> Resolved | Refused | NotNeeded:
        """Return the kernel route for a desired one; valid for all routes of the same specification and IP version."""
        spec = desired.spec
        if spec.kind == "unicast" and spec.gateways and all(each.address in self._own for each in spec.gateways):
            addresses = ", ".join(str(gateway.address) for gateway in spec.gateways)
            return NotNeeded(f"{addresses} is this node, which needs no route to what is behind itself")
        active = active_gateways(spec, self._down, self._cut_off(spec), self._held, self._own)
        if active.kind is None:
            return Refused("GatewaysDown", "withdrawn: all of its gateways are down", withdrawn=True)
        if active.kind != "unicast":
            route = Route(desired.subnet, (), self._protocol, spec.metric, None, spec.table, active.kind)
            return Resolved(route, degraded=active.kind != spec.kind)
        gateways = active.gateways or self._fallback_gateways(desired.version)
        if not gateways:
            return Refused("NoGateway", "no gateway is specified, and this node has no overlay gateway")
        reached = [(gateway, self._links.find(gateway.address, on_link=spec.on_link)) for gateway in gateways]
        hops = _next_hops([(gateway, reach) for gateway, reach in reached if reach.accepted])
        if not hops:
            _, first = reached[0]
            return Refused(first.fault, first.message)
        return Resolved(self._unicast(desired, hops), degraded=False)

    def _fallback_gateways(self, version: int) -> tuple[Gateway, ...]:
        if self._fallback is None or self._fallback.version != version:
            return ()
        self._record_fault(None, self._links.find(self._fallback))
        return (Gateway(self._fallback),)

    def _cut_off(self, spec: RouteSpec) -> frozenset[IpAddress]:
        """Return the gateways that are on no link that can carry traffic."""
        found = {
            gateway.address: self._links.find(gateway.address, on_link=spec.on_link)
            for gateway in spec.gateways
            if gateway.address not in self._own
        }
        for address, reach in found.items():
            self._record_fault(address, reach)
        return frozenset(address for address, reach in found.items() if reach.fault)

    def _record_fault(self, gateway: IpAddress | None, reach: Reach) -> None:
        if reach.fault:
            self._faults[gateway] = LinkFault(gateway, reach.fault, reach.message)

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


def _next_hops(reached: Sequence[tuple[Gateway, Reach]]) -> tuple[NextHop, ...]:
    single = len(reached) == 1
    hops = [
        NextHop(gateway.address, reach.link.index, 1 if single else gateway.weight, reach.on_link)
        for gateway, reach in reached
        if reach.link is not None
    ]
    return tuple(sorted(hops, key=lambda hop: hop.order))


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
