"""The kernel's routes, read so that a look at what did not change costs next to nothing.

What is remembered is what bytes mean, never what the kernel has: each look reads the kernel again. Where the answer is
the one of the look before, to the byte, so are the routes, and the very same tuple says so at once to whoever compares.
"""

import asyncio
import socket
from collections.abc import Iterable

from overlay_net.adapters.netlink.channel import Channel
from overlay_net.adapters.netlink.route_messages import (
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RouteReader,
    dump_routes,
    hop_order,
)
from overlay_net.adapters.netlink.wire import messages
from overlay_net.model.kernel import Route

FAMILIES = (socket.AF_INET, socket.AF_INET6)
MESSAGES_IN_A_ROW = 256
"""Some 4 ms of reading before others have their turn on the event loop."""


class Routes:
    """All routes of the namespace that a channel's socket is in."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._families = [_Family(channel, family) for family in FAMILIES]
        self._parts: list[tuple[Route, ...]] = []
        self._all: tuple[Route, ...] = ()

    async def read(self) -> tuple[Route, ...]:
        """The routes of all tables but "local". Raises KernelError."""
        parts = [await family.read() for family in self._families]
        if len(parts) != len(self._parts) or any(a is not b for a, b in zip(parts, self._parts, strict=True)):
            self._parts, self._all = parts, tuple(route for part in parts for route in part)
        return self._all


class _Family:
    def __init__(self, channel: Channel, family: int) -> None:
        self._channel = channel
        self._family = family
        self._datagrams: list[bytes] = []
        self._routes: tuple[Route, ...] = ()
        self._meanings: dict[bytes, Route | None] = {}

    async def read(self) -> tuple[Route, ...]:
        request = dump_routes(self._family)
        datagrams = await self._channel.dump(RTM_GETROUTE, request, known=frozenset(self._datagrams[:-1]))
        if datagrams != self._datagrams:
            self._routes = await self._decode(datagrams)
            self._datagrams = datagrams
        return self._routes

    async def _decode(self, datagrams: list[bytes]) -> tuple[Route, ...]:
        # What the kernel does not have any more is forgotten.
        known, meanings = self._meanings, {}
        route_of = RouteReader().route_of
        routes: list[Route] = []
        count = 0
        for datagram in datagrams:
            for kind, _, _, start, end in messages(datagram):
                if kind != RTM_NEWROUTE:
                    continue
                body = datagram[start:end]
                route = known[body] if body in known else route_of(body)
                meanings[body] = route
                if route is not None:
                    routes.append(route)
                count += 1
                if count % MESSAGES_IN_A_ROW == 0:
                    await asyncio.sleep(0)
        self._meanings = meanings
        return tuple(joined(routes) if self._family == socket.AF_INET6 else routes)


def joined(routes: Iterable[Route]) -> list[Route]:
    """IPv6 routes with the next hops of one ECMP route in one Route.

    Kernels before 4.11 dump each next hop of such a route as a message of its own, one after the other. Routes of one
    key without a gateway are no ECMP but several routes, one for each link (rt6_qualify_for_ecmp).
    """
    result: list[Route] = []
    for route in routes:
        before = result[-1] if result else None
        if before is not None and _are_siblings(before, route):
            hops = tuple(sorted((*before.next_hops, *route.next_hops), key=hop_order))
            result[-1] = Route(
                before.subnet,
                hops,
                before.protocol,
                before.metric,
                before.source,
                before.table,
                before.kind,
                before.mtu,
                before.advmss,
            )
        else:
            result.append(route)
    return result


def _are_siblings(before: Route, route: Route) -> bool:
    return (
        len(route.next_hops) == 1
        and bool(before.next_hops)
        and route.kind == before.kind == "unicast"
        and all(hop.gateway is not None for hop in (*before.next_hops, *route.next_hops))
        and (route.protocol, route.quick_key) == (before.protocol, before.quick_key)
    )
