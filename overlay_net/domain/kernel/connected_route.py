"""Plans the connected route of the overlay subnet, which the kernel derives from the overlay address.

The kernel does not restore it after it was deleted. A restored route has the attributes of the kernel's own, so the
kernel deletes it with the address. If the node has an address of the overlay subnet on another link, the metric keeps
this route behind that of the node, whichever of them the kernel derived first.
"""

from dataclasses import dataclass
from typing import Final

from overlay_net.domain.kernel.ownership import owns_address_anywhere
from overlay_net.domain.kernel.present_address import find_present, find_primary
from overlay_net.domain.kernel.stacked_link import lies_on
from overlay_net.model.kernel import Address, Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress, AddRoute, Problem
from overlay_net.model.net import IpNetwork
from overlay_net.model.route import MAIN_TABLE, RTPROT_KERNEL, NextHop, Route
from overlay_net.model.route_key import encode_route_key

CONNECTED_ROUTE_MISSING: Final = "ConnectedRouteMissing"
CONNECTED_ROUTE_SHADOWED: Final = "ConnectedRouteShadowed"
"""Problem reason if the kernel prefers another route to the overlay subnet."""
NODE_SUBNET: Final = "NodeSubnet"
"""Problem reason if traffic of the node itself would use the overlay link or address."""

NODE_SUBNET_METRIC: Final = 1_000_000
"""The metric of the connected route if the node has another address of the overlay subnet: higher than those that DHCP
clients and network managers set."""

_DEFAULT_METRICS: Final = {4: 0, 6: 256}
"""The metric of a connected route whose address has none, by IP version (IP6_RT_PRIO_ADDRCONF)."""


@dataclass(frozen=True, slots=True)
class ConnectedPlan:
    changes: tuple[AddAddress | AddRoute, ...] = ()
    problems: tuple[Problem, ...] = ()


def connected_metric(desired: Desired, observed: Observed, mark: OwnershipMark) -> int:
    """Return the metric of the connected route; 0: the kernel's default."""
    return NODE_SUBNET_METRIC if _find_node_address(desired, observed, mark) is not None else 0


class ConnectedPlanner:
    """Plans repeatedly; unchanged routes are not searched again."""

    def __init__(self, mark: OwnershipMark) -> None:
        self._mark = mark
        self._searched: tuple[tuple[Route, ...], IpNetwork | None] = ((), None)
        self._found: tuple[Route, ...] = ()

    def plan(self, desired: Desired, observed: Observed, link: Link | None) -> ConnectedPlan:
        """``link`` is the overlay link, if it exists. The kernel itself derives the routes of a link that comes up."""
        if link is None or desired.address is None or not link.up:
            return ConnectedPlan()
        address = find_present(desired.address, observed, self._mark, link)
        subnet = desired.address.network
        if address is None or address.dad_failed or subnet.prefixlen == subnet.max_prefixlen:
            return ConnectedPlan()
        routes = self._routes_to(subnet, observed)
        if any(route.table != MAIN_TABLE and _is_derived(route, link) for route in routes):
            # The link is in a VRF, which has a table of its own.
            return ConnectedPlan()
        names = {each.index: each.name for each in observed.links}
        candidates = _Candidates(address, link, tuple(each for each in routes if each.table == MAIN_TABLE), names)
        primary = find_primary(address, observed)
        if primary is not address:
            # The route is that of the primary address, which may be foreign.
            fix = f"; it belongs to the address {primary.interface}: add that address again"
            return ConnectedPlan(problems=() if candidates.on_link else candidates.missing(fix))
        node_address = _find_node_address(desired, observed, self._mark)
        if node_address is None:
            return candidates.plan()
        return candidates.plan_behind(node_address, same_network=_is_on_parent(node_address, desired, observed))

    def _routes_to(self, subnet: IpNetwork, observed: Observed) -> tuple[Route, ...]:
        routes, searched = self._searched
        if routes is not observed.routes or searched != subnet:
            destination = encode_route_key(subnet, 0, 0) >> 64
            self._found = tuple(route for route in observed.routes if route.key >> 64 == destination)
            self._searched = (observed.routes, subnet)
        return self._found


class _Candidates:
    """The routes of the main table to the subnet of ``address``; of equal metrics the kernel prefers the first."""

    def __init__(self, address: Address, link: Link, routes: tuple[Route, ...], link_names: dict[int, str]) -> None:
        self._address = address
        self._subnet = address.interface.network
        self._link = link
        self._routes = routes
        self._link_names = link_names
        # Its protocol does not matter, only where the kernel sends packets, and from which address.
        self.on_link = [each for each in routes if _is_direct(each, link)]
        self.usable = next((each for each in self.on_link if each.source in (None, address.interface.ip)), None)

    def plan(self) -> ConnectedPlan:
        """Plan the route that all traffic to the subnet uses."""
        if self._address.metric:
            return ConnectedPlan((self._set_metric(0),))
        if self.usable is None:
            return self._restore(_DEFAULT_METRICS[self._subnet.version])
        best = min(self._routes, key=lambda route: route.metric)
        return ConnectedPlan(problems=() if best is self.usable else (self._shadowed_by(best),))

    def plan_behind(self, node_address: Address, *, same_network: bool) -> ConnectedPlan:
        """Plan the route so that traffic of the node itself keeps using the link of its own address.

        ``same_network``: the overlay neighbours are reachable through that link, too.
        """
        other = self._link_names.get(node_address.link, "")
        shared = f"{self._subnet} is also the subnet of {node_address.interface} on {other}"
        if self._address.metric != NODE_SUBNET_METRIC:
            message = f"{shared}; the route over {self._link.name} needs the metric {NODE_SUBNET_METRIC}"
            return ConnectedPlan((self._set_metric(NODE_SUBNET_METRIC),), (Problem(NODE_SUBNET, message),))
        if self.usable is None:
            return self._restore(NODE_SUBNET_METRIC)
        if same_network:
            return ConnectedPlan()
        message = f"{shared}, which is not the parent interface: the node sends traffic to overlay neighbours there"
        return ConnectedPlan(problems=(Problem(NODE_SUBNET, f"{message}; choose another pool or interface"),))

    def missing(self, fix: str = "") -> tuple[Problem, ...]:
        message = f"the route to {self._subnet} over {self._link.name} is missing{fix}"
        return (Problem(CONNECTED_ROUTE_MISSING, message),)

    def _restore(self, metric: int) -> ConnectedPlan:
        """Add the route, unless another one has its key, which the kernel would refuse."""
        blocking = next((route for route in self._routes if route.metric == metric), None)
        if blocking is not None:
            return ConnectedPlan(problems=(self._shadowed_by(blocking),))
        source = self._address.interface.ip if self._subnet.version == 4 else None
        route = Route(self._subnet, (NextHop(None, self._link.index),), RTPROT_KERNEL, metric, source)
        return ConnectedPlan((AddRoute(route),), self.missing())

    def _set_metric(self, metric: int) -> AddAddress:
        return AddAddress(self._link.name, self._address.interface, metric)

    def _shadowed_by(self, route: Route) -> Problem:
        over = self._link_names.get(route.next_hops[0].link, "") if route.next_hops else ""
        where = f"over {over}" if over else f"of type {route.kind}"
        message = (
            f"the kernel uses a route of protocol {route.protocol} {where} to {self._subnet}, not the route over "
            f"{self._link.name}; delete it"
        )
        return Problem(CONNECTED_ROUTE_SHADOWED, message)


def _is_direct(route: Route, link: Link) -> bool:
    """Return whether the destination is on the link; a route from a router advertisement has no kind (it expires)."""
    return route.next_hops == (NextHop(None, link.index),) and route.kind in ("unicast", None)


def _is_derived(route: Route, link: Link) -> bool:
    return route.protocol == RTPROT_KERNEL and _is_direct(route, link)


def _is_on_parent(address: Address, desired: Desired, observed: Observed) -> bool:
    """Return whether an address is on the parent interface, or on a link that the parent carries."""
    link = observed.find_link_at(address.link)
    parent = observed.find_link(desired.link.parent) if desired.link is not None else None
    if link is None or parent is None:
        return False
    return link == parent or (link.kind in ("macvlan", "ipvlan") and lies_on(link, parent))


def _find_node_address(desired: Desired, observed: Observed, mark: OwnershipMark) -> Address | None:
    """Find a foreign address of the overlay subnet on another link; its own connected route has the same subnet."""
    if desired.address is None or desired.link is None:
        return None
    own = desired.link.parent if desired.link.kind == "address" else desired.link.name
    names = {each.index: each.name for each in observed.links}
    found = [
        each
        for each in observed.address_index.in_subnet(desired.address.network)
        if names.get(each.link) != own and not owns_address_anywhere(each, observed, mark)
    ]
    parent = [each for each in found if names.get(each.link) == desired.link.parent]
    return next(iter([*parent, *found]), None)
