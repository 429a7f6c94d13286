"""A socket for what the kernel announces by itself (rtnetlink multicast), and for nothing else."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

SO_RCVBUFFORCE = 33
PAUSE = 1.0
"""Seconds before a broken socket is replaced."""


async def listen(groups: int, receive_buffer: int, heard: Callable[[bytes], None], missed: Callable[[], None]) -> None:
    """Give each datagram to ``heard``, until cancelled; a broken socket is replaced.

    ``groups`` is a bit mask of RTMGRP_*. ``missed`` is called when something may have been announced that was not
    heard: at the beginning, after a break, and when the kernel dropped messages (ENOBUFS).
    """
    while True:
        try:
            await _listen(groups, receive_buffer, heard, missed)
        except OSError as error:
            log.warning("the kernel's notifications were interrupted: %s", error)
        missed()
        await asyncio.sleep(PAUSE)


async def _listen(groups: int, receive_buffer: int, heard: Callable[[bytes], None], missed: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as channel:
        try:
            channel.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        channel.bind((0, groups))
        # What changed before the socket listened was not heard.
        missed()
        while True:
            try:
                data = await loop.sock_recv(channel, 65536)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # Messages were dropped; the socket goes on.
                missed()
                continue
            heard(data)
