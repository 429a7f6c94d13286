"""Wakes somebody when the kernel's links, addresses or our routes change.

Nothing of a message is kept: whoever is woken looks at the kernel itself. So a lost message costs nothing but the
knowledge that one was lost, which is a reason to wake as well.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable

log = logging.getLogger(__name__)

# linux/rtnetlink.h: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE; RTNLGRP_IPV4_NETCONF (24)
# tells of rp_filter, the one of our sysctls that is told of at all.
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | 1 << (24 - 1)
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
NLM_F_REPLACE = 0x100
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 8 * 2**20
MESSAGES_IN_A_ROW = 256
"""Some milliseconds of reading before others have their turn on the event loop."""
_HEADER = struct.Struct("=IHHII")
_PROTOCOL_OFFSET = _HEADER.size + 5


class Monitor:
    """``wake`` is called on the event loop, at most once for each batch of messages that is read."""

    def __init__(self, protocol: int, wake: Callable[[], None]) -> None:
        self._protocol = protocol
        self._wake = wake

    async def run(self) -> None:
        """Listen until cancelled; a broken socket is replaced, and counts as a change."""
        while True:
            try:
                await self._listen()
            except OSError as error:
                log.warning("the kernel's notifications were interrupted: %s", error)
            self._wake()
            await asyncio.sleep(1)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as channel:
            try:
                channel.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            except PermissionError:
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            channel.bind((0, GROUPS))
            # What changed before the socket listened was not heard.
            self._wake()
            while True:
                try:
                    data = await loop.sock_recv(channel, 65536)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    # Messages were dropped; the socket goes on.
                    self._wake()
                    continue
                if self.concerns(data):
                    self._wake()
                    # Whoever is woken looks later than this: what is there by now needs no reading any more.
                    await self._skip(channel)

    async def _skip(self, channel: socket.socket) -> None:
        """Take all messages that wait, some at a time: a thousand routes announce themselves in a thousand."""
        with contextlib.suppress(BlockingIOError):
            while True:
                for _ in range(MESSAGES_IN_A_ROW):
                    channel.recv(65536)
                self._wake()
                await asyncio.sleep(0)

    def concerns(self, data: bytes) -> bool:
        """Whether one of the messages in ``data`` may concern us.

        Links and addresses always do. Of routes those of our protocol, and those that replaced one: it may have been
        ours. Other daemons' routes come by the hundred thousand.
        """
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, _, __ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size:
                return True
            if kind not in (RTM_NEWROUTE, RTM_DELROUTE) or flags & NLM_F_REPLACE:
                return True
            if offset + _PROTOCOL_OFFSET < len(data) and data[offset + _PROTOCOL_OFFSET] == self._protocol:
                return True
            offset += (length + 3) & ~3
        return False
