"""Source routing for the private addresses: their traffic never leaves over the overlay link.

A host in the subnet of a StaticRoute that opens a connection to the private address of this node would be answered over
the overlay, and a strict rp_filter of the private interface would drop its packets. Two policy rules for each private
address refer to the main table, without the routes over the overlay link (suppress_ifgroup), and then to a dedicated
table: the overlay subnet, the routes of the node that StaticRoutes replace, and a default route through the private
gateway. See docs/adr/0026.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final, Literal

from overlay_net.domain.kernel.ownership import owns_address_anywhere, owns_policy_rule, owns_route
from overlay_net.domain.kernel.source_tables import DEFAULT_ROUTE, SourcePart
from overlay_net.model.kernel import Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import Problem
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.policy_rule import PolicyRule, PrivateTable
from overlay_net.model.route import MAIN_TABLE, NextHop, Route
from overlay_net.model.route_key import RouteKey, decode_network_address, decode_prefix_length, decode_version

SETTING: Final = "private_source_table"


def private_parts(
    desired: Desired, observed: Observed, mark: OwnershipMark, link: Link | None
) -> tuple[SourcePart, ...]:
    """Return the parts of both IP versions; ``link`` is the overlay link, or None if it does not exist yet."""
    config = desired.private
    if config is None or desired.link is None:
        return ()
    parent = observed.find_link(desired.link.parent)
    return (
        _part(4, config, desired, observed, mark, parent, link),
        _part(6, config, desired, observed, mark, parent, link),
    )


def private_addresses(observed: Observed, mark: OwnershipMark, parent: Link) -> Iterator[IpAddress]:
    """Yield the addresses of the parent interface that other networks can reach."""
    for address in observed.address_index.on(parent.index):
        if address.in_use and not address.link_local and not owns_address_anywhere(address, observed, mark):
            yield address.interface.ip


def _part(
    version: Literal[4, 6],
    config: PrivateTable,
    desired: Desired,
    observed: Observed,
    mark: OwnershipMark,
    parent: Link | None,
    link: Link | None,
) -> SourcePart:
    if parent is None:
        # Without the interface its addresses are unknown: the kernel may have no route by which it is found.
        present = tuple(_present_rules(version, config, observed, mark))
        return SourcePart(SETTING, config.table, (version,), present, None)
    addresses = sorted({each for each in private_addresses(observed, mark, parent) if each.version == version}, key=int)
    rules = tuple(rule for each in addresses for rule in _rules(version, each, config, mark))
    if not rules:
        return SourcePart(SETTING, config.table, (version,))
    if not observed.keeps_rule_protocol:
        message = "private_source_routing requires Linux 4.17: an older kernel does not store who added a policy rule"
        problem = Problem("KernelTooOld", f"{message}; set private_source_routing to false")
        return SourcePart(SETTING, config.table, (version,), rules, None, problem)
    own = _own_routes(version, observed, mark, parent)
    if not own:
        return SourcePart(SETTING, config.table, (version,), rules, None, _no_gateway(version, desired, parent))
    if link is None:
        return SourcePart(SETTING, config.table, (version,), rules, None)
    table = _Table(config.table, mark.protocol)
    table.add(DEFAULT_ROUTE[version], own[0][1])
    for route, hop in _covering(own, desired, version):
        table.add(route.subnet, hop)
    address = desired.address
    if address is not None and address.version == version and address.network.prefixlen < address.max_prefixlen:
        # The rule excludes the route of the kernel to the overlay subnet as well.
        table.add(address.network, NextHop(None, link.index))
    return SourcePart(SETTING, config.table, (version,), rules, table.routes)


@dataclass(frozen=True, slots=True)
class _Table:
    number: int
    protocol: int
    routes: dict[RouteKey, Route] = field(default_factory=dict)

    def add(self, subnet: IpNetwork, hop: NextHop) -> None:
        """Add a route, unless the table has one to the subnet."""
        route = Route(subnet, (hop,), self.protocol, table=self.number)
        self.routes.setdefault(route.key, route)


def _rules(
    version: Literal[4, 6], address: IpAddress, config: PrivateTable, mark: OwnershipMark
) -> tuple[PolicyRule, PolicyRule]:
    source = ip_network(address)
    return (
        PolicyRule(version, config.priority, source, MAIN_TABLE, mark.protocol, suppress_group=mark.group),
        PolicyRule(version, config.priority + 1, source, config.table, mark.protocol),
    )


def _present_rules(version: int, config: PrivateTable, observed: Observed, mark: OwnershipMark) -> Iterator[PolicyRule]:
    for rule in observed.rules:
        is_ours = owns_policy_rule(rule, mark) and rule.version == version
        if is_ours and (rule.table == config.table or rule.suppress_group == mark.group):
            yield rule


def _own_routes(version: int, observed: Observed, mark: OwnershipMark, parent: Link) -> Sequence[tuple[Route, NextHop]]:
    """Return the routes of the node through gateways on the parent interface with these gateways, the widest first."""
    own = [
        (route, NextHop(hop.gateway, hop.link, on_link=hop.on_link))
        for route in observed.routes
        if not owns_route(route, mark) and route.table == MAIN_TABLE and decode_version(route.key) == version
        for hop in route.next_hops
        if hop.link == parent.index and hop.gateway is not None
    ]
    return sorted(own, key=lambda each: (decode_prefix_length(each[0].key), each[0].metric))


def _covering(own: Iterable[tuple[Route, NextHop]], desired: Desired, version: int) -> Iterator[tuple[Route, NextHop]]:
    """Yield the routes of the node, of one IP version, that would carry the traffic of some route of ours."""
    starts = sorted(_starts(desired, version))
    for route, hop in own:
        start = decode_network_address(route.key)
        if bisect_left(starts, start) < bisect_left(starts, start + route.subnet.num_addresses):
            yield route, hop


def _starts(desired: Desired, version: int) -> Iterator[int]:
    return (decode_network_address(route.key) for route in desired.routes if decode_version(route.key) == version)


def _no_gateway(version: int, desired: Desired, parent: Link) -> Problem | None:
    """Return the problem for the IP version of the overlay; another one may have no gateway."""
    if desired.address is None or desired.address.version != version:
        return None
    message = f"private_source_routing requires an IPv{version} route of the node with a gateway on {parent.name}"
    return Problem("NoPrivateGateway", f"{message}; add one to the main table, or disable the setting")
