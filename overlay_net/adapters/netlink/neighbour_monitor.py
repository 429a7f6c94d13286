"""Reports neighbours that the kernel could not resolve (NUD_FAILED), or whose entry was removed.

It uses a separate socket, so that a burst of them does not displace the notifications for Monitor. A lost one is
harmless.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from overlay_net.adapters.netlink.bulk.codec import attributes, messages
from overlay_net.adapters.netlink.notifications import Notifications
from overlay_net.model.net import IpAddress

RTMGRP_NEIGH: Final = 0x4
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29
NDMSG = struct.Struct("=BxxxiHBB")
"""family, link, state, flags, type (linux/neighbour.h)."""
NDA_DST = 1
NUD_FAILED = 0x20
RECEIVE_BUFFER = 2**20


class NeighbourMonitor:
    """``lost`` is called on the event loop with the address of each neighbour that was lost."""

    def __init__(self, lost: Callable[[IpAddress], None]) -> None:
        self._lost = lost

    async def run(self) -> None:
        """Listen until cancelled."""

        def received(data: bytes) -> bool:
            for address in lost_neighbours(data):
                self._lost(address)
            return False

        await Notifications(RTMGRP_NEIGH, RECEIVE_BUFFER, received, lambda: None).run()


def lost_neighbours(data: bytes) -> Iterator[IpAddress]:
    for kind, _, _, start, end in messages(data):
        if kind not in (RTM_NEWNEIGH, RTM_DELNEIGH):
            continue
        family, _, state, _, _ = NDMSG.unpack_from(data, start)
        if kind == RTM_NEWNEIGH and not state & NUD_FAILED:
            continue
        address = dict(attributes(data, start + NDMSG.size, end)).get(NDA_DST, b"")
        # Forwarding entries of a bridge have another family.
        if family == socket.AF_INET and len(address) == 4:
            yield IPv4Address(address)
        elif family == socket.AF_INET6 and len(address) == 16:
            yield IPv6Address(address)
