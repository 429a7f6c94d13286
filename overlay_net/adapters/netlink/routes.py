"""The kernel's routes: written in bulk, and read so that a look at what did not change costs next to nothing.

What is remembered is what bytes mean, never what the kernel has: each look reads the kernel again. Where the answer is
the one of the look before, to the byte, so are the routes, and the very same tuple says so at once to whoever compares.
"""

import errno
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext

from overlay_net.adapters.netlink.codec import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, messages
from overlay_net.adapters.netlink.describe import describe
from overlay_net.adapters.netlink.requests import GONE
from overlay_net.adapters.netlink.route_messages import (
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RoutePacker,
    RouteReader,
    dump_routes,
    metric_of,
)
from overlay_net.adapters.netlink.socket import NetlinkSocket, Request
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Route
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, ReplaceRoute, RouteAction
from overlay_net.runtime.gc_tuning import paused_gc

FAMILIES = (socket.AF_INET, socket.AF_INET6)
FEW_DATAGRAMS = 16
"""With some 5,000 routes in them."""


class Routes:
    """All routes of the namespace that the socket is in."""

    def __init__(self) -> None:
        self._families = [_Family(family) for family in FAMILIES]
        self._parts: list[tuple[Route, ...]] = []
        self._all: tuple[Route, ...] = ()

    def read(self, kernel: NetlinkSocket) -> tuple[Route, ...]:
        """The routes of all tables but "local". Raises KernelError and OSError."""
        parts = [family.read(kernel) for family in self._families]
        if len(parts) != len(self._parts) or any(a is not b for a, b in zip(parts, self._parts, strict=True)):
            self._parts, self._all = parts, tuple(route for part in parts for route in part)
        return self._all

    def write(self, kernel: NetlinkSocket, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        """Additions and replacements before the first deletion; the refused ones. Raises KernelError and OSError."""
        additions = [action for action in actions if not isinstance(action, DeleteRoute)]
        deletions = [action for action in actions if isinstance(action, DeleteRoute)]
        return _write(kernel, additions) + _write(kernel, self._there(kernel, deletions))

    def _there(self, kernel: NetlinkSocket, deletions: list[DeleteRoute]) -> list[DeleteRoute]:
        """Those of the deletions that may be asked for.

        "Metric 0" would take the first of any metric once the route itself is gone: so that is looked up before.
        """
        if all(metric_of(action.route) for action in deletions):
            return deletions
        there = self.read(kernel)
        same = {id(route) for route in there}
        if all(id(action.route) in same for action in deletions):
            return deletions
        keys = {(route.protocol, route.route_key) for route in there}
        return [
            action
            for action in deletions
            if metric_of(action.route) or (action.route.protocol, action.route.route_key) in keys
        ]


class _Family:
    def __init__(self, family: int) -> None:
        self._family = family
        self._datagrams: list[bytes] = []
        self._routes: tuple[Route, ...] = ()
        self._meanings: dict[bytes, Route | None] = {}

    def read(self, kernel: NetlinkSocket) -> tuple[Route, ...]:
        datagrams = kernel.dump(RTM_GETROUTE, dump_routes(self._family), known=frozenset(self._datagrams[:-1]))
        if datagrams != self._datagrams:
            with paused_gc() if len(datagrams) > FEW_DATAGRAMS else nullcontext():
                self._routes = self._decode(datagrams)
            self._datagrams = datagrams
        return self._routes

    def _decode(self, datagrams: list[bytes]) -> tuple[Route, ...]:
        # What the kernel does not have any more is forgotten.
        known, meanings = self._meanings, {}
        parse_route = RouteReader().parse_route
        routes: list[Route] = []
        for datagram in datagrams:
            for kind, _, _, start, end in messages(datagram):
                if kind != RTM_NEWROUTE:
                    continue
                body = datagram[start:end]
                route = known[body] if body in known else parse_route(body)
                meanings[body] = route
                if route is not None:
                    routes.append(route)
        self._meanings = meanings
        return tuple(joined(routes) if self._family == socket.AF_INET6 else routes)


def _write(kernel: NetlinkSocket, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
    refused: list[tuple[RouteAction, KernelError]] = []
    sent: list[RouteAction] = []
    packer = RoutePacker()
    verbs = {
        AddRoute: (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, packer.new),
        ReplaceRoute: (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, packer.new),
        DeleteRoute: (RTM_DELROUTE, 0, packer.delete),
    }

    def requests() -> Iterator[Request]:
        for action in actions:
            kind, flags, pack = verbs[type(action)]
            try:
                body = pack(action.route)
            except KernelError as error:
                refused.append((action, KernelError(f"{describe(action)}: {error}", code=errno.EINVAL)))
            else:
                sent.append(action)
                yield kind, flags, body

    for position, refusal in kernel.request(requests()).items():
        action = sent[position]
        if not (isinstance(action, DeleteRoute) and refusal.code in GONE):
            refused.append((action, KernelError(f"{describe(action)}: {refusal.text}", code=refusal.code)))
    return refused


def joined(routes: Iterable[Route]) -> list[Route]:
    """IPv6 routes with the next hops of one ECMP route in one Route.

    Kernels before 4.11 dump each next hop of such a route as a message of its own, one after the other. Routes of one
    key without a gateway are no ECMP but several routes, one for each link (rt6_qualify_for_ecmp).
    """
    result: list[Route] = []
    for route in routes:
        before = result[-1] if result else None
        if before is not None and _are_siblings(before, route):
            hops = tuple(sorted((*before.next_hops, *route.next_hops), key=lambda hop: hop.order))
            result[-1] = before.but(next_hops=hops)
        else:
            result.append(route)
    return result


def _are_siblings(before: Route, route: Route) -> bool:
    return (
        len(route.next_hops) == 1
        and bool(before.next_hops)
        and route.kind == before.kind == "unicast"
        and all(hop.gateway is not None for hop in (*before.next_hops, *route.next_hops))
        and (route.protocol, route.route_key) == (before.protocol, before.route_key)
    )
