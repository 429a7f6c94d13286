"""Finds our routes that are in the kernel but not used, because a route or policy rule of another process wins.

The kernel is asked for one address of each route, from the source address of the route. Where another process has a
more specific route, that is an address of it: the kernel would use it, wherever in the subnet it is. Another route of
ours that wins (a longer prefix, a lower metric, a copy in the table of source routing) is intended. Routes of other
tables than main are not judged: the rules that select their packets are those of users.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from overlay_net.domain.kernel.ownership import owns_policy_rule, owns_route
from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.conditions import SHADOWED
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.kernel_actions import Problem
from overlay_net.model.net import IpAddress
from overlay_net.model.route import MAIN_TABLE, RTPROT_KERNEL, Route
from overlay_net.model.route_key import RouteKey, decode_metric, decode_network_address, decode_prefix_length
from overlay_net.model.route_lookup import RouteLookup

WIDE: Final = 8
"""Routes with this prefix length or a shorter one are meant for what no other route covers."""

_BITS: Final = {4: 32, 6: 128}
_FIRST_UNICAST: Final = {4: int(IPv4Address("1.0.0.1")), 6: int(IPv6Address("2000::1"))}
"""For a route that includes the addresses below, which are no destinations: 0.0.0.0/8 and ::/8."""


@dataclass(frozen=True, slots=True)
class LookupTarget:
    """A route of ours, and the lookup that shows whether it is used."""

    desired: DesiredRoute
    route: Route
    lookup: RouteLookup
    rival: Route | None
    """The route of another process that may win, as far as the routes of the table main show."""


def main_table_spans(placed: Iterable[tuple[DesiredRoute, str]]) -> AddressSpans:
    """Return the addresses that ``lookup_targets`` chooses from: a route that begins outside of them never wins."""
    return AddressSpans.covering(desired.key for desired, _ in placed if _is_judged(desired))


def lookup_targets(
    placed: Iterable[tuple[DesiredRoute, str]], observed: Observed, mark: OwnershipMark
) -> tuple[LookupTarget, ...]:
    """Return the targets for those routes that are in place (``KernelPlan.placed``) and carry traffic."""
    tables = {version: _MainTable(version, observed.routes, mark) for version in (4, 6)}
    targets = (tables[desired.version].target(desired) for desired, _ in placed if _is_judged(desired))
    return tuple(target for target in targets if target is not None)


def _is_judged(desired: DesiredRoute) -> bool:
    return desired.spec.table == MAIN_TABLE and desired.spec.kind == "unicast"


class _MainTable:
    """The routes of one IP version in the table main, by address: a route precedes all those that it contains."""

    def __init__(self, version: int, routes: Iterable[Route], mark: OwnershipMark) -> None:
        self._version = version
        self._mark = mark
        mask, main = 0xFF << 64 | 0xFFFFFFFF, version << 64 | MAIN_TABLE
        self._routes: Mapping[RouteKey, Route] = {route.key: route for route in routes if route.key & mask == main}
        self._keys = sorted(self._routes)
        self._positions = {key: position for position, key in enumerate(self._keys)}

    def target(self, desired: DesiredRoute) -> LookupTarget | None:
        """Return the target for a route; None if more specific routes cover all of it, or if it is not there."""
        route = self._routes.get(desired.key)
        if route is None or not route.next_hops:
            return None
        address = self._first_address(route)
        rival = self._same_subnet_rival(route)
        wide = decode_prefix_length(route.key) <= WIDE
        for inner in self._inside(route):
            start = decode_network_address(inner.key)
            if not wide and self._may_win(inner, route):
                address, rival = self._first_address(inner), inner
                break
            if wide and start > address:
                break
            if start <= address:
                address = max(address, self._end(inner.key) + 1)
        if address > self._end(route.key):
            return None
        destination: IpAddress = IPv4Address(address) if self._version == 4 else IPv6Address(address)
        return LookupTarget(desired, route, RouteLookup(destination, route.source), rival)

    def _inside(self, route: Route) -> Iterator[Route]:
        """Yield the more specific routes inside this one."""
        end, length = self._end(route.key), decode_prefix_length(route.key)
        for position in range(self._positions[route.key] + 1, len(self._keys)):
            key = self._keys[position]
            if decode_network_address(key) > end:
                return
            if decode_prefix_length(key) != length:
                yield self._routes[key]

    def _same_subnet_rival(self, route: Route) -> Route | None:
        """Return the route of another process to the same subnet that has a lower metric."""
        destination = route.key >> 64
        for position in range(self._positions[route.key] - 1, -1, -1):
            key = self._keys[position]
            if key >> 64 != destination:
                return None
            if self._may_win(self._routes[key], route):
                return self._routes[key]
        return None

    def _may_win(self, other: Route, route: Route) -> bool:
        # StaticRoutes never replace the routes to the subnets of this node's links.
        foreign = not owns_route(other, self._mark) and other.protocol != RTPROT_KERNEL
        return foreign and not _same_path(other, route)

    def _end(self, key: RouteKey) -> int:
        """Return the last address of the destination as a number."""
        size = 1 << (_BITS[self._version] - decode_prefix_length(key))
        return decode_network_address(key) + size - 1

    def _first_address(self, route: Route) -> int:
        """Return the first address that a host can have."""
        start, end = decode_network_address(route.key), self._end(route.key)
        first = start + 1 if end - start > 1 else start
        unicast = _FIRST_UNICAST[self._version]
        return unicast if start == 0 and unicast <= end else first


def _same_path(one: Route, other: Route) -> bool:
    """Return whether packets take the same links and gateways."""
    return {(hop.gateway, hop.link) for hop in one.next_hops} == {(hop.gateway, hop.link) for hop in other.next_hops}


def find_shadowed(
    targets: Sequence[LookupTarget], answers: Sequence[Route | None], observed: Observed, mark: OwnershipMark
) -> tuple[Problem, ...]:
    """Return a problem for each route that the kernel does not use; without an answer, a route counts as used."""
    found = []
    for target, answer in zip(targets, answers, strict=True):
        winner = answer or _rejecting(target.rival)
        if winner is None or owns_route(winner, mark) or _same_path(winner, target.route):
            continue
        message = (
            f"in the kernel but not used: {_describe(winner, observed, mark)} takes precedence; remove it, or change "
            "subnet or metric of the StaticRoute"
        )
        found.append(Problem(SHADOWED, message, target.desired))
    return tuple(found)


def _rejecting(rival: Route | None) -> Route | None:
    """Return a rival that rejects traffic: the kernel answers its lookup with an error instead of the route."""
    return rival if rival is not None and rival.kind in ("blackhole", "unreachable", "prohibit") else None


def _describe(route: Route, observed: Observed, mark: OwnershipMark) -> str:
    details = [f"protocol {route.protocol}", f"metric {decode_metric(route.key)}"]
    if route.table != MAIN_TABLE:
        details.append(f"table {route.table}")
        version = route.subnet.version
        rules = (each for each in observed.rules if (each.version, each.table) == (version, route.table))
        rule = next((each for each in rules if not owns_policy_rule(each, mark)), None)
        if rule is not None:
            details.append(f"policy rule {rule.priority}")
    return f"{route.subnet} {_describe_path(route, observed)} ({', '.join(details)})"


def _describe_path(route: Route, observed: Observed) -> str:
    if not route.next_hops:
        return str(route.kind or "without a next hop")
    hop = route.next_hops[0]
    link = observed.find_link_at(hop.link)
    name = link.name if link is not None else f"link {hop.link}"
    return f"on {name}" if hop.gateway is None else f"via {hop.gateway} on {name}"
