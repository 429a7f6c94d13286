"""The netlink sockets of one thread: that of pyroute2, and that of the packed batches."""

import socket
from collections.abc import Callable, Set

from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket, open_netlink_socket
from overlay_net.adapters.netlink.iproute import IpRoute, open_route_socket


class KernelSockets:
    """Not thread-safe, except for ``abort``. The sockets are in the network namespace of the thread that creates it."""

    def __init__(
        self,
        connect: Callable[[], socket.socket] = open_netlink_socket,
        connect_route: Callable[[], socket.socket] = open_route_socket,
    ) -> None:
        self.bulk = NetlinkSocket(connect())
        try:
            self.route = IpRoute(connect_route())
        except BaseException:
            self.bulk.close()
            raise

    @property
    def ports(self) -> Set[int]:
        return self.bulk.ports | self.route.ports

    @property
    def datagrams(self) -> int:
        return self.bulk.datagrams + self.route.datagrams

    def abort(self) -> None:
        """End the current exchange, and every later one, with ECANCELED."""
        self.bulk.abort()
        self.route.abort()

    def close(self) -> None:
        self.bulk.close()
        self.route.close()
