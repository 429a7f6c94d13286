"""Finds another host that has the MAC of our macvlan link, such as a node of another cluster on the same VLAN.

A macvlan in bridge mode does not receive frames with its own MAC as the source; its parent does. In private mode it is
the other way round (macvlan_handle_frame in drivers/net/macvlan.c). Both are watched, and the kernel drops the frames
of all other sources.
"""

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address

from overlay_net.adapters.neighbours.arp_packet import NO_ADDRESS, ArpPacket
from overlay_net.adapters.neighbours.arp_socket import ArpSocket
from overlay_net.domain.kernel.own_frames import MacConflict, MacvlanLink, OwnPackets


class MacWatch:
    """``on_conflict`` is called for each ARP packet with the MAC of the link that this host has not sent."""

    def __init__(self, on_conflict: Callable[[MacConflict], None]) -> None:
        self._on_conflict = on_conflict
        self._link: MacvlanLink | None = None
        self._sockets: tuple[ArpSocket, ...] = ()
        self._own = OwnPackets()

    def set_addresses(self, addresses: frozenset[int]) -> None:
        """Set the IPv4 addresses of this host, with the one that is about to be configured."""
        self._own.set_addresses(addresses, asyncio.get_running_loop().time())

    def record_probe(self, address: IPv4Address) -> None:
        """This host probes for the address now."""
        self._own.record_probe(address, asyncio.get_running_loop().time())

    def watch(self, link: MacvlanLink | None) -> None:
        """Watch the MAC of this link, or none. Idempotent. Raises KernelError if the link or its parent is missing."""
        if link != self._link:
            self.close()
            self._link, self._sockets = link, self._make_sockets(link)
        for each in self._sockets:
            each.open()

    def close(self) -> None:
        """Idempotent."""
        for each in self._sockets:
            each.close()
        self._sockets, self._link = (), None

    def _make_sockets(self, link: MacvlanLink | None) -> tuple[ArpSocket, ...]:
        if link is None:
            return ()
        names = [name for name in (link.parent, link.name) if name]
        return tuple(ArpSocket(name, self._received, lambda error: None, source=link.mac) for name in names)

    def _received(self, packet: ArpPacket) -> None:
        now = asyncio.get_running_loop().time()
        if self._link is not None and not self._own.may_include(packet.sender, packet.target, now):
            address = packet.target if packet.sender == NO_ADDRESS else packet.sender
            self._on_conflict(MacConflict(self._link, address))
