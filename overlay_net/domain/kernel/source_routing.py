"""Source routing: what comes from the overlay address leaves through the overlay gateway.

Two rules for the overlay address, in this order: the main table counts as far as it is more specific than
``SourceTable.suppress``, then our own table does. That one holds the overlay subnet, a default route through the
overlay gateway, and those of our routes of the main table over the overlay that the first rule passes over. Why so:
docs/adr/0014. Where the wish cannot be placed now, what the kernel has stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

from overlay_net.domain.kernel.ownership import owns_policy_rule, owns_route
from overlay_net.model.kernel import Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, Problem, ReplaceRoute
from overlay_net.model.net import IpAddress, IpInterface
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule, PolicyRule, SourceTable
from overlay_net.model.route import MAIN_TABLE, NextHop, Route
from overlay_net.model.route_key import RouteKey, decode_prefix_length, decode_version

DEFAULT = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


@dataclass(frozen=True, slots=True)
class SourcePlan:
    changes: tuple[AddRoute | ReplaceRoute, ...] = ()
    add: tuple[AddPolicyRule, ...] = ()
    drop: tuple[DeletePolicyRule, ...] = ()
    deletions: tuple[DeleteRoute, ...] = ()
    problem: Problem | None = None


def plan_source(desired: Desired, observed: Observed, mark: OwnershipMark, link: Link | None) -> SourcePlan:
    """``link`` is where the overlay address is, as far as it exists already.

    Without a wish this plans the end of our rules; the routes of the table are then nobody's, and domain.route_plan
    has them go.
    """
    ours = [rule for rule in observed.rules if owns_policy_rule(rule, mark)]
    source, address = desired.source, desired.address
    if source is None or address is None:
        return SourcePlan(drop=tuple(DeletePolicyRule(rule) for rule in ours))
    wanted = _rules(source.place, address, mark)
    drop = tuple(DeletePolicyRule(rule) for rule in ours if rule not in wanted)
    problem = _hindrance(source.gateway, address, observed)
    if problem is not None or source.gateway is None or link is None:
        return SourcePlan(drop=drop, problem=problem)
    table = {route.key: route for route in _routes(source.gateway, address, source.place, observed, mark, link)}
    present: dict[RouteKey, Route] = {}
    for route in observed.routes:
        if route.table == source.place.table and decode_version(route.key) == address.version:
            if owns_route(route, mark):
                present[route.key] = route
            elif route.key in table:
                message = (
                    f"table {route.table} has a route of protocol {route.protocol} to {route.subnet}, which is not "
                    "ours to change: choose another source_table"
                )
                return SourcePlan(drop=drop, problem=Problem("SourceTableTaken", message))
    changes = tuple(
        ReplaceRoute(route) if key in present else AddRoute(route)
        for key, route in table.items()
        if present.get(key) != route
    )
    return SourcePlan(
        changes,
        add=tuple(AddPolicyRule(rule) for rule in wanted if rule not in ours),
        drop=drop,
        deletions=tuple(
            DeleteRoute(route)
            for route in observed.routes
            if route.table == source.place.table and owns_route(route, mark) and route.key not in table
        ),
    )


def _hindrance(gateway: IpAddress | None, address: IpInterface, observed: Observed) -> Problem | None:
    if not observed.keeps_rule_protocol:
        message = "rules of source_routing could not be told from other people's: that needs Linux 4.17"
        return Problem("KernelTooOld", f"{message}; set source_routing to false")
    if gateway is None:
        return Problem("NoOverlayGateway", f"source_routing needs the gateway of {address}, and its pool has none")
    if address.version == 6 and gateway.version == 4:
        message = f"an IPv6 route cannot go through {gateway}: source_routing needs an IPv6 gateway for {address}"
        return Problem("NoOverlayGateway", message)
    return None


def _rules(place: SourceTable, address: IpInterface, mark: OwnershipMark) -> tuple[PolicyRule, PolicyRule]:
    version: Literal[4, 6] = 4 if address.version == 4 else 6
    own = ip_network(address.ip)
    return (
        PolicyRule(version, place.priority, own, MAIN_TABLE, mark.protocol, place.suppress),
        PolicyRule(version, place.priority + 1, own, place.table, mark.protocol),
    )


def _routes(
    gateway: IpAddress, address: IpInterface, place: SourceTable, observed: Observed, mark: OwnershipMark, link: Link
) -> Iterator[Route]:
    """What the table shall have; of two routes of one key the later one counts."""
    version, subnet = address.version, address.network
    if subnet.prefixlen < subnet.max_prefixlen:
        on_link = (NextHop(None, link.index),)
        yield Route(subnet, on_link, mark.protocol, source=address.ip, table=place.table)
    hop = NextHop(gateway, link.index, on_link=not gateway.is_link_local and gateway not in subnet)
    yield Route(DEFAULT[version], (hop,), mark.protocol, source=address.ip, table=place.table)
    for route in observed.routes:
        if (
            route.table == MAIN_TABLE
            and owns_route(route, mark)
            and decode_version(route.key) == version
            and decode_prefix_length(route.key) <= place.suppress
            # Routes over the overlay name its address; of those that lead nowhere the same is wished here.
            and (route.source == address.ip or not route.next_hops)
        ):
            yield route.replace(table=place.table)
