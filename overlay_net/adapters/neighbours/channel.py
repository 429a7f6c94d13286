"""The packet socket of one link that carries its ARP, through links that vanish and come back.

The socket is bound to the link's index, which a link that is made anew does not keep: every use looks whether it is
still the same one. A link that only goes down and up keeps its socket (packet_notifier in net/packet/af_packet.c).
"""

import asyncio
import errno
import socket
from collections.abc import Callable

from overlay_net.adapters.neighbours.interface import find_index, hardware_address, is_running, kernel_error
from overlay_net.adapters.neighbours.packet import ETH_P_ARP, ArpPacket, Mac
from overlay_net.model.errors import KernelError

BATCH = 64
"""Packets that are read before others have their turn on the event loop: a storm must not stop the agent."""


class ArpChannel:
    """``received`` gets every packet of others, ``interrupted`` why none can come now; both on the event loop."""

    def __init__(
        self, name: str, received: Callable[[ArpPacket], None], interrupted: Callable[[KernelError], None]
    ) -> None:
        self.name = name
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
        """Idempotent; anew where the link is another one than before. Raises KernelError."""
        index = find_index(self.name)
        if self._socket is not None and index == self._index:
            return
        self.close()
        what = f"listen to ARP on {self.name}"
        try:
            # With a protocol from the start it would hear every link until it is bound.
            channel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            raise kernel_error(what, error) from None
        try:
            channel.bind((self.name, ETH_P_ARP))
        except OSError as error:
            channel.close()
            raise kernel_error(what, error) from None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel, self._readable, channel)
        self._socket, self._index = channel, index

    def close(self) -> None:
        """Idempotent."""
        channel, self._socket = self._socket, None
        if channel is not None and self._loop is not None:
            self._loop.remove_reader(channel)
            channel.close()

    def send(self, packet: ArpPacket, destination: Mac) -> None:
        """Raises KernelError. A frame to a link without carrier would be dropped silently, so that is an error too."""
        self.open()
        what = f"send ARP on {self.name}"
        if not self.running:
            raise KernelError(f"{what}: no carrier", code=errno.ENETDOWN)
        assert self._socket is not None
        try:
            self._socket.send(packet.encode(destination))
        except OSError as error:
            # ENETDOWN, ENXIO: down, or gone. ENOBUFS, EAGAIN: too much at once. The next one may pass.
            raise kernel_error(what, error) from None

    def _readable(self, channel: socket.socket) -> None:
        for _ in range(BATCH):
            if channel is not self._socket:
                # Whoever got the last packet closed or re-opened.
                return
            try:
                frame, (_, _, kind, *_) = channel.recvfrom(256)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                return
            # linux/if_packet.h: what this machine sent itself.
            if kind == socket.PACKET_OUTGOING:
                continue
            packet = ArpPacket.decode(frame)
            if packet is not None:
                self._received(packet)

    def _failed(self, error: OSError) -> None:
        """The link went down, or away, which the socket tells once (ENETDOWN)."""
        try:
            same = find_index(self.name) == self._index
        except KernelError:
            same = False
        if not same or error.errno != errno.ENETDOWN:
            self.close()
        self._interrupted(kernel_error(f"listen to ARP on {self.name}", error))
