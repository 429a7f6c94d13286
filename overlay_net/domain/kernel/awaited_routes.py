"""Decides which routes of other processes concern this node: what a problem waits for, and what may undo our routes.

It depends on the desired state alone, so the agent knows it before it observes the kernel and misses no change.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network

from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import ByRoute
from overlay_net.domain.kernel.routes import FOREIGN_ROUTE
from overlay_net.domain.kernel.source_tables import DEFAULT_ROUTE, SOURCE_TABLE_TAKEN
from overlay_net.model.adoptable_route import AdoptableRoute
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel_actions import Problem
from overlay_net.model.net import IpInterface, IpNetwork
from overlay_net.model.policy_rule import SourceTable
from overlay_net.model.route import MAIN_TABLE
from overlay_net.model.route_key import (
    RouteKey,
    decode_destination,
    decode_metric,
    decode_network_address,
    decode_prefix_length,
    decode_table,
    decode_version,
    encode_route_key,
)


def waits_for_foreign_route(problems: Iterable[Problem]) -> bool:
    """Return whether a route of another process is in the place of ours."""
    return any(problem.reason in (FOREIGN_ROUTE, SOURCE_TABLE_TAKEN) for problem in problems)


def find_awaited_routes(
    routes: Iterable[DesiredRoute],
    address: IpInterface | None,
    config: LinkConfig,
    adoptable: Iterable[AdoptableRoute] = (),
) -> AwaitedRoutes:
    """``address`` is the overlay address of the node; ``config`` is the configuration of its link."""
    # Of ten thousand keys, a dict takes half the memory of a set.
    keys = dict.fromkeys(route.key for route in routes)
    destinations = {each for subnet in _looked_up(config) for each in _covering(subnet)}
    overlay: int | None = None
    covered: Mapping[int, Sequence[int]] = {}
    tables: set[int] = set()
    if address is not None and config.mode != "none":
        overlay = decode_destination(encode_route_key(address.network, 0, MAIN_TABLE))
        if config.private is not None and config.mode != "address":
            # Its table has the routes of the node that ours replace, and a default route like the node's. Without that,
            # any route of the node shows its gateway.
            covered = _sorted_addresses(keys)
            destinations |= {
                decode_destination(encode_route_key(each, 0, MAIN_TABLE)) for each in DEFAULT_ROUTE.values()
            }
            tables |= {config.private.table, MAIN_TABLE}
        if config.source is not None:
            keys |= dict.fromkeys(_source_table_keys(keys, address, config.source))
            tables.add(config.source.table)
    keys |= dict.fromkeys(each.key for each in adoptable)
    return AwaitedRoutes(keys.keys(), destinations, overlay, covered, tables)


def _looked_up(config: LinkConfig) -> Iterator[IpNetwork]:
    """Yield the subnets to which the kernel's route decides: the most specific one that covers them."""
    if isinstance(config.parent, ByRoute):
        yield ip_network(config.parent.address)
    if config.fallback is not None and config.mode == "none":
        yield config.fallback


def _source_table_keys(keys: Iterable[RouteKey], address: IpInterface, source: SourceTable) -> Iterator[RouteKey]:
    """Yield the keys that source routing needs in its table."""
    version = address.version
    yield encode_route_key(address.network, 0, source.table)
    yield encode_route_key(DEFAULT_ROUTE[version], 0, source.table)
    for key in keys:
        is_suppressed = decode_prefix_length(key) <= source.suppress and decode_version(key) == version
        if is_suppressed and decode_table(key) == MAIN_TABLE:
            yield (decode_destination(key) << 32 | decode_metric(key)) << 32 | source.table


def _sorted_addresses(keys: Iterable[RouteKey]) -> Mapping[int, Sequence[int]]:
    addresses: dict[int, set[int]] = {4: set(), 6: set()}
    for key in keys:
        addresses[decode_version(key)].add(decode_network_address(key))
    return {version: sorted(found) for version, found in addresses.items()}


def _covering(subnet: IpNetwork) -> Iterator[int]:
    """Yield the destination of each subnet that contains this one."""
    for length in range(subnet.prefixlen + 1):
        yield decode_destination(encode_route_key(subnet.supernet(new_prefix=length), 0, MAIN_TABLE))
