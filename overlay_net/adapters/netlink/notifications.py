"""A socket for what the kernel announces by itself (rtnetlink multicast), and for nothing else."""

import array
import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final

from overlay_net.adapters.netlink.socket import set_receive_buffer

log = logging.getLogger(__name__)

MESSAGES_IN_A_ROW = 256
"""Some milliseconds of reading before others have their turn on the event loop."""
PAUSE = 1.0
"""Seconds before a broken socket is replaced."""

SO_ATTACH_FILTER: Final = 26
# linux/bpf_common.h: load a word (as big-endian), jump if equal, return; struct nlmsghdr has the port at this offset.
BPF_LD_W_ABS, BPF_JEQ, BPF_RET = 0x20, 0x15, 0x06
PORT_OFFSET: Final = 12
WHOLE: Final = 0xFFFFFFFF

Heard = Callable[[bytes], bool]
"""Given a datagram, whether the kernel itself will be looked at: then what was announced by now needs no reading."""


class Notifications:
    """Gives each datagram to ``heard``; a broken socket is replaced.

    ``groups`` is a bit mask of RTMGRP_*. ``missed`` is called when something may have been announced that was not
    heard: at the beginning, after a break, when the kernel dropped messages (ENOBUFS), and for what was passed over.
    """

    def __init__(self, groups: int, receive_buffer: int, heard: Heard, missed: Callable[[], None]) -> None:
        self._groups = groups
        self._receive_buffer = receive_buffer
        self._heard = heard
        self._missed = missed
        self._ignored = 0
        self._socket: socket.socket | None = None

    def ignore(self, port: int) -> None:
        """From now on not to hear of what the netlink socket of this port asked for; 0 is none."""
        self._ignored = port
        if self._socket is not None:
            _deafen(self._socket, port)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except OSError as error:
                log.warning("the kernel's notifications were interrupted: %s", error)
            finally:
                self._socket = None
            self._missed()
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as channel:
            set_receive_buffer(channel, self._receive_buffer)
            _deafen(channel, self._ignored)
            channel.bind((0, self._groups))
            self._socket = channel
            # What changed before the socket listened was not heard.
            self._missed()
            while True:
                try:
                    if self._heard(await loop.sock_recv(channel, 65536)):
                        await self._pass_over(channel)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    # Messages were dropped; the socket goes on.
                    self._missed()

    async def _pass_over(self, channel: socket.socket) -> None:
        """Take all that waits: a thousand routes announce themselves in a thousand messages."""
        while True:
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while taken < MESSAGES_IN_A_ROW:
                    channel.recv(65536)
                    taken += 1
            if taken:
                # A look that has begun meanwhile was too early for these.
                self._missed()
            if taken < MESSAGES_IN_A_ROW:
                return
            await asyncio.sleep(0)


def _deafen(channel: socket.socket, port: int) -> None:
    """Let the kernel drop what the socket of that port caused, before it wakes anybody.

    A message says on whose request something changed (nlmsg_pid), and 0 for what the kernel did by itself.
    """
    (as_loaded,) = struct.unpack(">I", struct.pack("=I", port))
    asked = ((BPF_LD_W_ABS, 0, 0, PORT_OFFSET), (BPF_JEQ, 0, 1, as_loaded), (BPF_RET, 0, 0, 0))
    program = (*(asked if port else ()), (BPF_RET, 0, 0, WHOLE))
    # struct sock_filter; the kernel copies them while it is told where they are (struct sock_fprog).
    steps = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    address, _ = steps.buffer_info()
    channel.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))
