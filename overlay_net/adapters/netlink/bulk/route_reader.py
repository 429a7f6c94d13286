"""Reads the kernel's routes of one IP version: ours, and of the others only those that a plan needs.

The kernel can select the routes of one protocol and table, in a twentieth of the time that all routes take. So a search
of all routes only finds out where the needed ones are, and these are read until such a route may have appeared.
"""

import errno
import operator
import socket
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Final, TypeAlias

from overlay_net.adapters.netlink.bulk.ecmp_siblings import join_siblings
from overlay_net.adapters.netlink.bulk.route_decoder import RouteDecoder
from overlay_net.adapters.netlink.bulk.route_filter import RouteFilter, bodies_within
from overlay_net.adapters.netlink.bulk.route_messages import (
    RT_TABLE_LOCAL,
    RTM_GETROUTE,
    RTMSG_TABLE,
    dump_routes,
)
from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket
from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel_changes import UNKNOWN, KernelChanges
from overlay_net.model.route import MAIN_TABLE, RTPROT_KERNEL, RTPROT_RA, Route
from overlay_net.runtime.gc_tuning import paused_gc

FEW: Final = 5000
"""Routes that are decoded without a pause of the garbage collector."""
SEARCH_INTERVAL: Final = 300.0
"""Seconds after which all routes are searched in any case: a lost event is made up for, as by any other resync."""

Part: TypeAlias = tuple[int, int]
"""Protocol and table of routes that are read together; table 0: those of all tables."""
ALL: Final = (0, 0)
_ALWAYS_READ: Final[Mapping[int, Set[Part]]] = {
    socket.AF_INET: {(RTPROT_KERNEL, MAIN_TABLE)},
    socket.AF_INET6: {(RTPROT_KERNEL, MAIN_TABLE), (RTPROT_RA, 0)},
}
"""Routes that are needed whether or not a change of them concerns us."""


@dataclass(frozen=True, slots=True)
class _Dump:
    """What is needed of one dump, in the order of the kernel."""

    routes: tuple[Route, ...] = ()
    decoded: Mapping[bytes, Route | None] = field(default_factory=dict)
    datagrams: Sequence[bytes] = ()
    """The dump: an equal one has an equal result. Empty if it is not kept."""


class RouteReader:
    """Each read asks for all routes that are needed, except for those that have not changed since the last one.

    Unchanged routes are the same tuple as at the last read, so comparing the two is cheap.
    """

    def __init__(self, family: int, protocol: int) -> None:
        """``protocol`` is that of our routes."""
        self._family = family
        self._protocol = protocol
        self._awaited: AwaitedRoutes | None = None
        self._filter = RouteFilter(family, protocol, None)
        self._parts: frozenset[Part] = frozenset()
        """What to read; empty: not known."""
        self._search_after = 0.0
        self._may_derive = True
        """Whether the kernel may have derived other routes since the last read."""
        self._dumps: dict[Part, _Dump] = {}
        """The last dump of each part, or of ALL."""
        self._routes: tuple[Route, ...] = ()

    @property
    def decoded(self) -> Mapping[bytes, Route | None]:
        """The decoded messages of our routes in the table main; any thread may use it."""
        dumps = self._dumps
        return (dumps.get((self._protocol, MAIN_TABLE)) or dumps.get(ALL) or _Dump()).decoded

    def forget(self) -> None:
        """Search all routes at the next read."""
        self._parts = frozenset()

    def read(
        self, kernel: NetlinkSocket, awaited: AwaitedRoutes | None, changes: KernelChanges = UNKNOWN
    ) -> tuple[Route, ...]:
        """Read our routes and those that ``awaited`` needs; None: all routes. Raises KernelError and OSError.

        ``changes``: what may have changed since the last read. Routes of one key are in the order of the kernel.
        """
        if awaited is not self._awaited:
            self._follow(awaited)
        if changes.awaited_routes or time.monotonic() >= self._search_after:
            self.forget()
        self._may_derive = changes.everything or changes.derived_routes
        dumps = self._read_parts(kernel) or self._search(kernel)
        changed = dumps.keys() != self._dumps.keys() or any(
            dump.routes is not self._dumps[part].routes for part, dump in dumps.items()
        )
        self._dumps = dumps
        if changed:
            self._routes = tuple(chain.from_iterable(dump.routes for dump in dumps.values()))
        return self._routes

    def read_main_table(self, kernel: NetlinkSocket, spans: AddressSpans) -> list[Route]:
        """Read the routes of the table main that begin inside ``spans``. Any thread may call this."""
        if not spans.has_version(4 if self._family == socket.AF_INET else 6):
            return []
        select = partial(bodies_within, family=self._family, spans=spans)
        bodies = kernel.dump_parsed(RTM_GETROUTE, dump_routes(self._family), select)
        decode, cached = RouteDecoder().decode, self.decoded
        found = (cached[body] if body in cached else decode(body) for body in bodies)
        return [route for route in found if route is not None]

    def _follow(self, awaited: AwaitedRoutes | None) -> None:
        self._awaited = awaited
        self._filter = RouteFilter(self._family, self._protocol, awaited)
        # Of the same dumps, other routes may be needed now.
        self._dumps = {part: replace(dump, datagrams=()) for part, dump in self._dumps.items()}
        self.forget()

    def _read_parts(self, kernel: NetlinkSocket) -> dict[Part, _Dump]:
        """Read the known parts. Returns nothing if the order of the kernel must be known."""
        dumps = {part: self._read_part(kernel, part) for part in self._parts}
        others = (dump.routes for (protocol, _), dump in dumps.items() if protocol != self._protocol)
        if self._has_key_of_ours(chain.from_iterable(others)):
            self.forget()
            return {}
        return dumps

    def _read_part(self, kernel: NetlinkSocket, part: Part) -> _Dump:
        protocol, table = part
        last = self._dumps.get(part) or replace(self._dumps.get(ALL, _Dump()), datagrams=())
        if protocol == RTPROT_KERNEL and last.datagrams and not self._may_derive:
            return last
        request = dump_routes(self._family, protocol=protocol, table=table)
        try:
            datagrams = kernel.dump(RTM_GETROUTE, request, known=frozenset(last.datagrams[:-1]))
        except KernelError as error:
            # A table exists while it has routes.
            if error.code != errno.ENOENT:
                raise
            return _Dump()
        if datagrams == last.datagrams:
            return last
        bodies = list(chain.from_iterable(map(self._filter.needed_bodies, datagrams)))
        return replace(self._decode(bodies, last), datagrams=datagrams)

    def _search(self, kernel: NetlinkSocket) -> dict[Part, _Dump]:
        """Search all routes, and read only the parts that have one that is needed, if that is enough."""
        request = dump_routes(self._family)
        if self._awaited is not None and kernel.filters_dumps and ALL not in self._dumps:
            others = kernel.dump_parsed(RTM_GETROUTE, request, self._filter.other_bodies)
            known = {body: route for dump in self._dumps.values() for body, route in dump.decoded.items()}
            self._find_parts(self._awaited, self._decode(others, _Dump(decoded=known)).routes)
            if found := self._read_parts(kernel):
                return found
        bodies = kernel.dump_parsed(RTM_GETROUTE, request, self._filter.needed_bodies)
        last = replace(self._dumps.get(ALL, _Dump()), decoded=self.decoded)
        everything = self._decode(bodies, last)
        if self._awaited is not None and kernel.filters_dumps:
            self._find_parts(self._awaited, everything.routes)
        return self._read_parts(kernel) or {ALL: everything}

    def _find_parts(self, awaited: AwaitedRoutes, routes: Iterable[Route]) -> None:
        """Set the parts to read, unless another process has a route with a key of ours."""
        parts = {(self._protocol, table) for table in awaited.own_tables} | _ALWAYS_READ[self._family]
        others = []
        for route in routes:
            if route.info.protocol == self._protocol:
                parts.add((self._protocol, route.table))
            else:
                others.append(route)
                parts.add((route.protocol, route.table if route.protocol == RTPROT_KERNEL else 0))
        if not self._has_key_of_ours(others):
            self._parts = frozenset(parts)
            self._search_after = time.monotonic() + SEARCH_INTERVAL

    def _has_key_of_ours(self, others: Iterable[Route]) -> bool:
        return self._awaited is not None and any(route.key in self._awaited.keys for route in others)

    def _decode(self, bodies: Sequence[bytes], last: _Dump) -> _Dump:
        awaited, protocol, cached = self._awaited, self._protocol, last.decoded
        with paused_gc() if len(bodies) > FEW else nullcontext():
            decode = RouteDecoder().decode
            # The routes of the table "local", of which a node may have thousands, are not decoded.
            rest = [body for body in bodies if body[RTMSG_TABLE] != RT_TABLE_LOCAL]
            decoded = {body: cached[body] if body in cached else decode(body) for body in rest}
            found = [
                route
                for route in map(decoded.__getitem__, rest)
                if route is not None and (route.info.protocol == protocol or awaited is None or awaited.needs(route))
            ]
            routes = join_siblings(found) if self._family == socket.AF_INET6 else found
        same = len(routes) == len(last.routes) and all(map(operator.is_, routes, last.routes))
        return _Dump(last.routes if same else tuple(routes), decoded)
