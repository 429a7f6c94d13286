"""The packet socket for ARP on one link, which survives the link's deletion and re-creation.

The socket is bound to the link's index, which changes when the link is re-created, so every use checks the index. A
link that only goes down and up keeps its socket (packet_notifier in net/packet/af_packet.c).
"""

import asyncio
import errno
import socket
import threading
from collections.abc import Callable

from overlay_net.adapters.neighbours.arp_packet import ETH_P_ARP, ArpPacket, Mac
from overlay_net.adapters.neighbours.interface import find_index, hardware_address, is_running, kernel_error
from overlay_net.adapters.neighbours.socket_filter import accept_only_from
from overlay_net.model.errors import KernelError

FOR_THIS_HOST = frozenset({socket.PACKET_HOST, socket.PACKET_BROADCAST, socket.PACKET_MULTICAST})
"""Kinds of packets (linux/if_packet.h) that ARP in Linux handles (arp_rcv in net/ipv4/arp.c).

The other ones are PACKET_OTHERHOST, a frame for another host or of a VLAN that the link does not have, and frames that
this host sent.
"""

BATCH = 64
"""Packets read before the event loop runs other tasks: an ARP storm must not block the agent."""

LAST_BATCH = 1024
"""The same for packets that have arrived by the timeout of a request; more than the kernel stores by default."""


class ArpSocket:
    """Calls ``received`` with each packet that the kernel handles on the link as well.

    ``interrupted`` is called with the error that stopped receiving. Both are called on the event loop. ``source``: only
    frames with this Ethernet source are received.
    """

    def __init__(
        self,
        name: str,
        received: Callable[[ArpPacket], None],
        interrupted: Callable[[KernelError], None],
        *,
        source: Mac = "",
    ) -> None:
        self.name = name
        self._source = source
        self._received = received
        self._interrupted = interrupted
        self._socket: socket.socket | None = None
        self._index = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def mac(self) -> Mac:
        return hardware_address(self.name)

    @property
    def running(self) -> bool:
        return is_running(self.name)

    def open(self) -> None:
        """Open the socket, or another one if the link was re-created. Idempotent. Raises KernelError."""
        index = find_index(self.name)
        if self._socket is not None and index == self._index:
            return
        self.close()
        purpose = f"listen to ARP on {self.name}"
        try:
            # Protocol 0, because any other one would receive from every link until the socket is bound.
            packet_socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
        except OSError as error:
            raise kernel_error(purpose, error) from None
        try:
            if self._source:
                accept_only_from(packet_socket, self._source)
            packet_socket.bind((self.name, ETH_P_ARP))
        except OSError as error:
            packet_socket.close()
            raise kernel_error(purpose, error) from None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(packet_socket, self._readable, packet_socket)
        self._socket, self._index = packet_socket, index

    def close(self) -> None:
        """Idempotent."""
        closed, self._socket = self._socket, None
        if closed is not None and self._loop is not None:
            self._loop.remove_reader(closed)
            # In a thread, as it takes 5 to 20 ms: the kernel waits until no CPU uses the socket any more
            # (synchronize_net in packet_release, net/packet/af_packet.c). A repair must not wait as well.
            threading.Thread(target=closed.close, daemon=True).start()

    def send(self, packet: ArpPacket, destination: Mac) -> None:
        """Send a packet. Raises KernelError, also if the link has no carrier and would silently drop the frame."""
        self.open()
        purpose = f"send ARP on {self.name}"
        if not self.running:
            raise KernelError(f"{purpose}: no carrier", code=errno.ENETDOWN)
        assert self._socket is not None
        try:
            self._socket.send(packet.encode(destination))
        except OSError as error:
            # ENETDOWN, ENXIO: the link is down or deleted. ENOBUFS, EAGAIN: the queue is full; a retry may succeed.
            raise kernel_error(purpose, error) from None

    def drain(self) -> None:
        """Receive the packets that have arrived, without waiting for the event loop."""
        if self._socket is not None:
            self._readable(self._socket, LAST_BATCH)

    def _readable(self, readable: socket.socket, limit: int = BATCH) -> None:
        for _ in range(limit):
            if readable is not self._socket:
                # The receiver of the last packet closed or reopened the socket.
                return
            try:
                frame, (link, _, kind, *_) = readable.recvfrom(256)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                return
            packet = ArpPacket.decode(frame) if is_handled(self.name, link, kind) else None
            if packet is not None:
                self._received(packet)

    def _failed(self, error: OSError) -> None:
        """Handle a link that went down, which the socket reports once (ENETDOWN), or was deleted."""
        try:
            same_link = find_index(self.name) == self._index
        except KernelError:
            same_link = False
        if not same_link or error.errno != errno.ENETDOWN:
            self.close()
        self._interrupted(kernel_error(f"listen to ARP on {self.name}", error))


def is_handled(name: str, received_on: str, kind: int) -> bool:
    """Return whether ARP in Linux handles a frame on the link with this name, if a socket of the link received it.

    A frame of a link on top of this one, such as a VLAN or a macvlan, is delivered to sockets of the link below as
    well, with the name of the upper link (__netif_receive_skb_core in net/core/dev.c).
    """
    return received_on == name and kind in FOR_THIS_HOST
