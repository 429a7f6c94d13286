"""Reads and writes the kernel's routes in bulk, at little cost if nothing has changed.

Only decoded bytes are cached, never the kernel's state: each read dumps all routes. If the dump equals the previous one
byte for byte, the result is the same tuple, so comparing the two is cheap.
"""

import errno
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext

from overlay_net.adapters.netlink.bulk.codec import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, messages
from overlay_net.adapters.netlink.bulk.route_decoder import RouteDecoder
from overlay_net.adapters.netlink.bulk.route_encoder import RouteEncoder
from overlay_net.adapters.netlink.bulk.route_messages import (
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTMSG_PREFIX,
    RTMSG_TYPE,
    RTN_LOCAL,
    dump_routes,
)
from overlay_net.adapters.netlink.bulk.socket import NOT_FOUND, NetlinkSocket, Request
from overlay_net.adapters.netlink.describe import describe
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, ReplaceRoute, RouteAction
from overlay_net.model.net import IpAddress
from overlay_net.model.route import Route
from overlay_net.runtime.gc_tuning import paused_gc

FAMILIES = (socket.AF_INET, socket.AF_INET6)
FEW_DATAGRAMS = 16
"""About 5,000 routes."""


class Routes:
    """All routes of the network namespace of the socket."""

    def __init__(self) -> None:
        self._families = [_Family(family) for family in FAMILIES]
        self._by_family: list[tuple[Route, ...]] = []
        self._all: tuple[Route, ...] = ()

    def read(self, kernel: NetlinkSocket) -> tuple[Route, ...]:
        """Read the routes of all tables but "local". Raises KernelError and OSError."""
        found = [family.read(kernel) for family in self._families]
        if [id(routes) for routes in found] != [id(routes) for routes in self._by_family]:
            self._by_family, self._all = found, tuple(route for routes in found for route in routes)
        return self._all

    def has_local(self, address: IpAddress) -> bool:
        """Return whether the kernel accepts packets to an address, as of the last read."""
        return any(address.packed in family.local for family in self._families)

    def write(self, kernel: NetlinkSocket, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        """Apply additions and replacements, then deletions. Returns refused ones. Raises KernelError and OSError."""
        additions = [action for action in actions if not isinstance(action, DeleteRoute)]
        deletions = [action for action in actions if isinstance(action, DeleteRoute)]
        return _write(kernel, additions) + _write(kernel, self._safe(kernel, deletions))

    def _safe(self, kernel: NetlinkSocket, deletions: list[DeleteRoute]) -> list[DeleteRoute]:
        """Return the deletions without those that could delete another route.

        The kernel takes metric 0 as any metric: if the route is already gone, it would delete one with another metric.
        Therefore a route of metric 0 is deleted only if it still exists.
        """
        if all(action.route.metric for action in deletions):
            return deletions
        observed = self.read(kernel)
        identities = {id(route) for route in observed}
        if all(id(action.route) in identities for action in deletions):
            return deletions
        keys = {(route.protocol, route.key) for route in observed}
        return [
            action for action in deletions if action.route.metric or (action.route.protocol, action.route.key) in keys
        ]


class _Family:
    def __init__(self, family: int) -> None:
        self._family = family
        self._datagrams: list[bytes] = []
        self._routes: tuple[Route, ...] = ()
        self._decoded: dict[bytes, Route | None] = {}
        self.local: frozenset[bytes] = frozenset()
        """The addresses that have a local route, in any table: that of a VRF is another one."""

    def read(self, kernel: NetlinkSocket) -> tuple[Route, ...]:
        datagrams = kernel.dump(RTM_GETROUTE, dump_routes(self._family), known=frozenset(self._datagrams[:-1]))
        if datagrams != self._datagrams:
            with paused_gc() if len(datagrams) > FEW_DATAGRAMS else nullcontext():
                self._routes = self._decode(datagrams)
            self._datagrams = datagrams
        return self._routes

    def _decode(self, datagrams: list[bytes]) -> tuple[Route, ...]:
        # Keep only routes of this dump in the cache.
        cached, decoded = self._decoded, {}
        decode = RouteDecoder().decode
        bodies = _route_bodies(datagrams)
        routes: list[Route] = []
        for body in bodies:
            route = cached[body] if body in cached else decode(body)
            decoded[body] = route
            if route is not None:
                routes.append(route)
        self._decoded, self.local = decoded, _local_addresses(bodies, self._family)
        return tuple(join_siblings(routes) if self._family == socket.AF_INET6 else routes)


def _route_bodies(datagrams: Iterable[bytes]) -> list[bytes]:
    return [
        datagram[start:end]
        for datagram in datagrams
        for kind, _, _, start, end in messages(datagram)
        if kind == RTM_NEWROUTE
    ]


def _local_addresses(bodies: Iterable[bytes], family: int) -> frozenset[bytes]:
    """The kernel writes the subnet right after the table (fib_dump_info, rt6_fill_node)."""
    bits, end = (32, 28) if family == socket.AF_INET else (128, 40)
    return frozenset(body[24:end] for body in bodies if body[RTMSG_TYPE] == RTN_LOCAL and body[RTMSG_PREFIX] == bits)


def _write(kernel: NetlinkSocket, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
    refused: list[tuple[RouteAction, KernelError]] = []
    sent: list[RouteAction] = []
    encoder = RouteEncoder()
    message_types = {
        AddRoute: (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, encoder.new),
        ReplaceRoute: (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, encoder.new),
        DeleteRoute: (RTM_DELROUTE, 0, encoder.delete),
    }

    def requests() -> Iterator[Request]:
        for action in actions:
            kind, flags, encode = message_types[type(action)]
            try:
                body = encode(action.route)
            except KernelError as error:
                refused.append((action, KernelError(f"{describe(action)}: {error}", code=errno.EINVAL)))
            else:
                sent.append(action)
                yield kind, flags, body

    for position, refusal in kernel.request(requests()).items():
        action = sent[position]
        if not (isinstance(action, DeleteRoute) and refusal.code in NOT_FOUND):
            refused.append((action, KernelError(f"{describe(action)}: {refusal.text}", code=refusal.code)))
    return refused


def join_siblings(routes: Iterable[Route]) -> list[Route]:
    """Join the next hops of each IPv6 ECMP route into one Route.

    Kernels before 4.11 dump each next hop of such a route as a separate message, one after the other. Routes of one key
    without a gateway are not ECMP but separate routes, one for each link (rt6_qualify_for_ecmp).
    """
    result: list[Route] = []
    for route in routes:
        previous = result[-1] if result else None
        if previous is not None and _are_siblings(previous, route):
            hops = tuple(sorted((*previous.next_hops, *route.next_hops), key=lambda hop: hop.order))
            result[-1] = previous.replace(next_hops=hops)
        else:
            result.append(route)
    return result


def _are_siblings(previous: Route, route: Route) -> bool:
    return (
        len(route.next_hops) == 1
        and bool(previous.next_hops)
        and route.kind == previous.kind == "unicast"
        and all(hop.gateway is not None for hop in (*previous.next_hops, *route.next_hops))
        and (route.protocol, route.key) == (previous.protocol, previous.key)
    )
