"""A socket for what the kernel announces by itself (rtnetlink multicast), and for nothing else."""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable

from overlay_net.adapters.netlink.route_socket import set_receive_buffer

log = logging.getLogger(__name__)

MESSAGES_IN_A_ROW = 256
"""Some milliseconds of reading before others have their turn on the event loop."""
PAUSE = 1.0
"""Seconds before a broken socket is replaced."""


Heard = Callable[[bytes], bool]
"""Given a datagram, whether the kernel itself will be looked at: then what was announced by now needs no reading."""


async def listen(groups: int, receive_buffer: int, heard: Heard, missed: Callable[[], None]) -> None:
    """Give each datagram to ``heard``, until cancelled; a broken socket is replaced.

    ``groups`` is a bit mask of RTMGRP_*. ``missed`` is called when something may have been announced that was not
    heard: at the beginning, after a break, when the kernel dropped messages (ENOBUFS), and for what was passed over.
    """
    while True:
        try:
            await _listen(groups, receive_buffer, heard, missed)
        except OSError as error:
            log.warning("the kernel's notifications were interrupted: %s", error)
        missed()
        await asyncio.sleep(PAUSE)


async def _listen(groups: int, receive_buffer: int, heard: Heard, missed: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as channel:
        set_receive_buffer(channel, receive_buffer)
        channel.bind((0, groups))
        # What changed before the socket listened was not heard.
        missed()
        while True:
            try:
                if heard(await loop.sock_recv(channel, 65536)):
                    await _pass_over(channel, missed)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # Messages were dropped; the socket goes on.
                missed()


async def _pass_over(channel: socket.socket, missed: Callable[[], None]) -> None:
    """Take all that waits: a thousand routes announce themselves in a thousand messages."""
    while True:
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while taken < MESSAGES_IN_A_ROW:
                channel.recv(65536)
                taken += 1
        if taken:
            # A look that has begun meanwhile was too early for these.
            missed()
        if taken < MESSAGES_IN_A_ROW:
            return
        await asyncio.sleep(0)
