"""Receives the notifications of the kernel (rtnetlink multicast) through pyroute2's socket, as bytes.

They are not parsed here: most of them are routes of other processes, which pyroute2 would take ten times as long for.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import IntEnum
from typing import TypeAlias

from overlay_net.adapters.netlink.bulk.socket import set_receive_buffer
from overlay_net.adapters.netlink.notification_filter import EVERYTHING, Program, attach
from overlay_net.adapters.netlink.pyroute2_parts import IPRSocket, rtnl

log = logging.getLogger(__name__)

DATAGRAMS_AT_ONCE = 256
"""Datagrams to read before the event loop runs other tasks; they take a few milliseconds."""
DATAGRAM = 64 * 1024
PAUSE = 1.0
"""Seconds before a broken socket is replaced."""

Connect: TypeAlias = Callable[[Program], AbstractContextManager[socket.socket]]
"""Opens a socket with a filter. Raises OSError."""


class Group(IntEnum):
    """Which notifications (RTNLGRP_* in linux/rtnetlink.h)."""

    LINKS = rtnl.RTNLGRP_LINK
    NEIGHBOURS = rtnl.RTNLGRP_NEIGH
    IPV4_ADDRESSES = rtnl.RTNLGRP_IPV4_IFADDR
    IPV6_ADDRESSES = rtnl.RTNLGRP_IPV6_IFADDR
    IPV4_ROUTES = rtnl.RTNLGRP_IPV4_ROUTE
    IPV6_ROUTES = rtnl.RTNLGRP_IPV6_ROUTE
    IPV4_RULES = rtnl.RTNLGRP_IPV4_RULE
    IPV6_RULES = rtnl.RTNLGRP_IPV6_RULE
    IPV4_NETCONF = rtnl.RTNLGRP_IPV4_NETCONF
    IPV6_NETCONF = rtnl.RTNLGRP_IPV6_NETCONF
    NEXTHOPS = 32
    """RTNLGRP_NEXTHOP, which pyroute2 does not name."""


class Notifications:
    """Passes all pending datagrams to ``received``; a broken socket is replaced.

    ``missed`` is called when notifications may have been missed: at startup, after an interruption, and when the kernel
    dropped messages (ENOBUFS).
    """

    def __init__(
        self,
        connect: Connect,
        received: Callable[[Sequence[bytes]], None],
        missed: Callable[[], None],
        accepted: Program = EVERYTHING,
    ) -> None:
        self._connect = connect
        self._received = received
        self._missed = missed
        self._accepted = accepted
        self._socket: socket.socket | None = None

    def accept(self, program: Program) -> None:
        """Receive only notifications that the filter accepts, from now on."""
        self._accepted = program
        if self._socket is not None:
            attach(self._socket, program)

    def catch_up(self) -> bool:
        """Pass what is pending now, up to the number after which other tasks must run. Returns whether that was all."""
        if self._socket is None:
            return True
        try:
            return self._receive(self._socket)
        except OSError:
            self._missed()
            return False

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                with self._connect(self._accepted) as connection:
                    self._socket = connection
                    await self._listen(connection)
            except OSError as error:
                log.warning("kernel notifications interrupted", extra={"error": str(error)})
            finally:
                self._socket = None
            self._missed()
            await asyncio.sleep(PAUSE)

    async def _listen(self, connection: socket.socket) -> None:
        # This socket got no notifications of changes before it was bound.
        self._missed()
        while True:
            # What is read is passed on at once, so that ``catch_up`` never overtakes it.
            await _readable(connection)
            self._receive(connection)

    def _receive(self, connection: socket.socket) -> bool:
        """Pass pending datagrams. Returns whether these were all. Raises OSError if the socket is broken."""
        try:
            datagrams = list(_pending(connection))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # The kernel dropped messages; the socket remains usable.
            self._missed()
            return False
        if datagrams:
            self._received(datagrams)
        return len(datagrams) < DATAGRAMS_AT_ONCE


@contextmanager
def open_notification_socket(
    groups: Iterable[Group], receive_buffer: int, accepted: Program
) -> Iterator[socket.socket]:
    """Open a socket for the notifications that ``accepted`` does not drop, in the network namespace of this thread.

    Raises OSError.
    """
    with IPRSocket() as opened:
        connection: socket.socket = opened.socket
        connection.setblocking(False)
        set_receive_buffer(connection, receive_buffer)
        # Before it is bound, so that it never receives what is to be dropped.
        attach(connection, accepted)
        try:
            opened.bind(groups=sum(1 << group - 1 for group in groups))
        except KeyError:
            # After 180 ports, for any reason (AsyncNetlinkSocket._sync_bind).
            raise OSError(errno.EADDRINUSE, "no netlink port can be bound") from None
        yield connection


async def _readable(connection: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


def _pending(connection: socket.socket) -> Iterator[bytes]:
    """Receive pending datagrams, up to the number after which other tasks must run."""
    with suppress(BlockingIOError):
        for _ in range(DATAGRAMS_AT_ONCE):
            yield connection.recv(DATAGRAM)
