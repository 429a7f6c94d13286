"""Receives the notifications of the kernel (rtnetlink multicast)."""

import array
import asyncio
import contextlib
import errno
import logging
import socket
import struct
import sys
from collections.abc import Callable, Set
from typing import Final

from overlay_net.adapters.netlink.bulk.socket import set_receive_buffer

log = logging.getLogger(__name__)

DATAGRAMS_AT_ONCE = 256
"""Datagrams to read before the event loop runs other tasks; they take a few milliseconds."""
DATAGRAM = 64 * 1024
PAUSE = 1.0
"""Seconds before a broken socket is replaced."""

SO_ATTACH_FILTER: Final = 26
# linux/bpf_common.h: load a word (as big-endian), jump if equal, return.
BPF_LD_W_ABS, BPF_JEQ, BPF_RET = 0x20, 0x15, 0x06
NLMSG_PORT: Final = 12
"""Offset of the port in struct nlmsghdr."""
WHOLE_PACKET: Final = 0xFFFFFFFF

OnDatagram = Callable[[bytes], bool]
"""Returns whether the kernel will be observed because of the datagram: then pending datagrams can be discarded."""


class Notifications:
    """Passes each datagram to ``received``; a broken socket is replaced.

    ``groups`` is a bit mask of RTMGRP_*. ``missed`` is called when notifications may have been missed: at startup,
    after an interruption, when the kernel dropped messages (ENOBUFS), and when pending ones were discarded.
    """

    def __init__(self, groups: int, receive_buffer: int, received: OnDatagram, missed: Callable[[], None]) -> None:
        self._groups = groups
        self._receive_buffer = receive_buffer
        self._received = received
        self._missed = missed
        self._ignored_ports: Set[int] = frozenset()
        self._socket: socket.socket | None = None

    def ignore(self, ports: Set[int]) -> None:
        """Ignore notifications of changes made through the netlink sockets with these ports."""
        self._ignored_ports = ports
        if self._socket is not None:
            _filter_out(self._socket, ports)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except OSError as error:
                log.warning("kernel notifications interrupted", extra={"error": str(error)})
            finally:
                self._socket = None
            self._missed()
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as connection:
            set_receive_buffer(connection, self._receive_buffer)
            _filter_out(connection, self._ignored_ports)
            connection.bind((0, self._groups))
            self._socket = connection
            # This socket got no notifications of changes before the bind.
            self._missed()
            while True:
                try:
                    if self._received(await loop.sock_recv(connection, DATAGRAM)):
                        await self._discard_pending(connection)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    # The kernel dropped messages; the socket remains usable.
                    self._missed()

    async def _discard_pending(self, connection: socket.socket) -> None:
        """Discard pending datagrams: a thousand changed routes cause a thousand of them."""
        while True:
            discarded = 0
            with contextlib.suppress(BlockingIOError):
                while discarded < DATAGRAMS_AT_ONCE:
                    connection.recv(DATAGRAM)
                    discarded += 1
            if discarded:
                # An observation that has started since may not include these changes.
                self._missed()
            if discarded < DATAGRAMS_AT_ONCE:
                return
            await asyncio.sleep(0)


def _filter_out(connection: socket.socket, ports: Set[int]) -> None:
    """Attach a filter that drops notifications of changes made through these ports before they wake the process.

    The header contains the port of the socket that requested the change (nlmsg_pid), or 0 for the kernel's own changes.
    """
    program = bpf_program(ports)
    # An array of struct sock_filter; the kernel copies it during the call (struct sock_fprog has its address).
    instructions = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    address, _ = instructions.buffer_info()
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))


def bpf_program(ports: Set[int]) -> list[tuple[int, int, int, int]]:
    """Return instructions (code, to skip if true, to skip if false, constant) that accept all but these ports.

    Port 0, which a socket has until it is bound, is that of the kernel, whose changes are always accepted.
    """
    # The kernel loads a word as big-endian.
    words = [int.from_bytes(port.to_bytes(4, sys.byteorder)) for port in sorted(ports - {0})]
    to_drop = range(len(words), 0, -1)
    return [
        (BPF_LD_W_ABS, 0, 0, NLMSG_PORT),
        *((BPF_JEQ, skipped, 0, word) for skipped, word in zip(to_drop, words, strict=True)),
        (BPF_RET, 0, 0, WHOLE_PACKET),
        (BPF_RET, 0, 0, 0),
    ]
