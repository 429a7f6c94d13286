"""Source routing: traffic from the overlay address leaves through the overlay gateway.

Two policy rules for the overlay address refer to the main table, without the routes that ``SourceTable.suppress``
suppresses, and then to a dedicated table. That table has the overlay subnet, a default route through the overlay
gateway, and copies of our routes over the overlay that the first rule suppresses. See docs/adr/0014.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

from overlay_net.domain.kernel.ownership import owns_route
from overlay_net.domain.kernel.source_tables import DEFAULT_ROUTE, SourcePart
from overlay_net.model.kernel import Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import Problem
from overlay_net.model.net import IpAddress, IpInterface
from overlay_net.model.policy_rule import PolicyRule, SourceTable
from overlay_net.model.route import MAIN_TABLE, NextHop, Route
from overlay_net.model.route_key import decode_prefix_length, decode_version


def overlay_part(
    desired: Desired, observed: Observed, mark: OwnershipMark, link: Link | None
) -> tuple[SourcePart, ...]:
    """Return the part; none if source routing is not desired.

    ``link`` is the link with the overlay address, or None if it does not exist yet.
    """
    source, address = desired.source, desired.address
    if source is None or address is None:
        return ()
    rules = _desired_rules(source.config, address, mark)
    problem = _find_obstacle(source.gateway, address, observed)
    routes = None
    if problem is None and source.gateway is not None and link is not None:
        table = _Table(source.config, source.gateway, address, link, mark)
        routes = {route.key: route for route in table.desired_routes(observed)}
    return (SourcePart("source_table", source.config.table, (4, 6), rules, routes, problem),)


def _find_obstacle(gateway: IpAddress | None, address: IpInterface, observed: Observed) -> Problem | None:
    if not observed.keeps_rule_protocol:
        message = "source_routing requires Linux 4.17: an older kernel does not store who added a policy rule"
        return Problem("KernelTooOld", f"{message}; set source_routing to false")
    if gateway is None:
        message = f"source_routing requires an overlay gateway for {address}; set the gateway of its pool"
        return Problem("NoOverlayGateway", message)
    if address.version == 6 and gateway.version == 4:
        message = f"source_routing requires an IPv6 gateway for {address}, not {gateway}; set the gateway of its pool"
        return Problem("NoOverlayGateway", message)
    return None


def _desired_rules(config: SourceTable, address: IpInterface, mark: OwnershipMark) -> tuple[PolicyRule, PolicyRule]:
    version: Literal[4, 6] = 4 if address.version == 4 else 6
    source = ip_network(address.ip)
    return (
        PolicyRule(version, config.priority, source, MAIN_TABLE, mark.protocol, config.suppress),
        PolicyRule(version, config.priority + 1, source, config.table, mark.protocol),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """The routing table of source routing, once all of its parts are known."""

    config: SourceTable
    gateway: IpAddress
    address: IpInterface
    link: Link
    mark: OwnershipMark

    def desired_routes(self, observed: Observed) -> Iterator[Route]:
        """Yield the routes of the table; of two with the same key the later one counts."""
        subnet, source, table = self.address.network, self.address.ip, self.config.table
        if subnet.prefixlen < subnet.max_prefixlen:
            connected = (NextHop(None, self.link.index),)
            yield Route(subnet, connected, self.mark.protocol, source=source, table=table)
        on_link = not self.gateway.is_link_local and self.gateway not in subnet
        hop = NextHop(self.gateway, self.link.index, on_link=on_link)
        yield Route(DEFAULT_ROUTE[subnet.version], (hop,), self.mark.protocol, source=source, table=table)
        for route in observed.routes:
            if self._is_suppressed(route):
                yield route.replace(table=table)

    def _is_suppressed(self, route: Route) -> bool:
        """Return whether this is our route over the overlay and the first rule suppresses it."""
        return (
            owns_route(route, self.mark)
            and route.table == MAIN_TABLE
            and decode_version(route.key) == self.address.version
            and decode_prefix_length(route.key) <= self.config.suppress
            # Routes over the overlay have its address as source; those that reject traffic do so here too.
            and (route.source == self.address.ip or not route.next_hops)
        )
