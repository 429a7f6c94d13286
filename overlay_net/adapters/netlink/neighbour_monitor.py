"""Reports neighbours that the kernel could not resolve (NUD_FAILED), or whose entry was removed.

It uses a separate socket, so that a burst of them does not displace the notifications for Monitor. A lost one is
harmless.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import ip_address
from itertools import chain
from typing import Final

from overlay_net.adapters.netlink.notification_filter import LOST_NEIGHBOURS
from overlay_net.adapters.netlink.notifications import Group, Notifications, open_notification_socket
from overlay_net.adapters.netlink.pyroute2_parts import MarshalRtnl
from overlay_net.model.net import IpAddress

RECEIVE_BUFFER: Final = 2**20
_MARSHAL: Final = MarshalRtnl()


class NeighbourMonitor:
    """``lost`` is called on the event loop with the address of each neighbour that was lost."""

    def __init__(self, lost: Callable[[IpAddress], None]) -> None:
        self._lost = lost

    async def run(self) -> None:
        """Listen until cancelled."""
        connect = partial(open_notification_socket, [Group.NEIGHBOURS], RECEIVE_BUFFER)
        await Notifications(connect, self._received, lambda: None, LOST_NEIGHBOURS).run()

    def _received(self, datagrams: Iterable[bytes]) -> None:
        for address in chain.from_iterable(map(parse_neighbours, datagrams)):
            self._lost(address)


def parse_neighbours(data: bytes) -> Iterator[IpAddress]:
    """Yield the address in each message of a datagram."""
    for message in _MARSHAL.parse(data):
        address = message.get_attr("NDA_DST")
        # An attribute that pyroute2 cannot parse has its bytes as the value.
        if isinstance(address, str):
            yield ip_address(address)
