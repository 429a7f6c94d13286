"""ARP on one link: is an address free, where is a gateway, who else says that our address is theirs.

Packets whose sender MAC is one of this machine's are never evidence of another host: with ``arp_ignore=0`` the parent
and every sibling macvlan answer for all addresses of the machine.
"""

import asyncio
import errno
import random
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Final

from overlay_net.adapters.neighbours.channel import ArpChannel
from overlay_net.adapters.neighbours.defence import Defence, OnConflict
from overlay_net.adapters.neighbours.interface import local_macs, require_address
from overlay_net.adapters.neighbours.packet import BROADCAST, NO_ADDRESS, NO_MAC, REQUEST, ArpPacket, Mac
from overlay_net.model.errors import KernelError

SETTLE: Final = 1.0
"""Seconds that a link which was just set up may take until its carrier shows (net/core/link_watch.c)."""
TICK: Final = 0.02
GATEWAY_MEMORY: Final = 60.0
"""Seconds after its last resolution for which a gateway's MAC is remembered and watched."""

OnGatewayChange = Callable[[IPv4Address, Mac, Mac], None]


class ArpLink:
    """Needs CAP_NET_RAW. Opens itself at the first use, also when the link was made anew; ``close`` in the end.

    ``on_conflict(address, mac)`` is called for each packet of another host that claims an address of ``defend``;
    ``on_gateway_change(gateway, old, new)`` when a gateway that is resolved regularly shows another MAC.
    """

    def __init__(
        self,
        name: str,
        *,
        own_macs: Callable[[], Container[Mac]] = local_macs,
        on_conflict: OnConflict = lambda address, mac: None,
        on_gateway_change: OnGatewayChange = lambda gateway, old, new: None,
    ) -> None:
        self._channel = ArpChannel(name, self._received, self._interrupted)
        self._own_macs = own_macs
        self._defence = Defence(lambda address: self._request(address, address), on_conflict)
        self._on_gateway_change = on_gateway_change
        self._waiting: list[tuple[Callable[[ArpPacket], bool], asyncio.Future[Mac]]] = []
        self._gateways: dict[IPv4Address, tuple[Mac, float]] = {}

    async def probe(
        self, address: IPv4Address, *, probes: int = 3, spacing: float = 0.2, listen: float = 0.4, delay: float = 0.1
    ) -> Mac | None:
        """The MAC of a host that has ``address``, or probes for it at this moment; None: nobody does (RFC 5227 2.1.1).

        Shorter than the RFC's 4 to 7 s (3 probes 1 to 2 s apart, up to 1 s before, 2 s after): those are made for
        hosts that choose addresses by themselves behind slow bridges; here an IPAM hands out an address once, a node
        waits for it, and ``defend`` watches on. Two that start together hear each other: each listens for longer than
        the pauses between the other's probes. Raises KernelError where the link cannot tell, which is not "free".
        """
        self._channel.open()
        with self._first(lambda packet: claims(packet, address)) as found:
            await self._settled()
            await asyncio.wait([found], timeout=random.uniform(0, delay))
            for left in reversed(range(probes)):
                if found.done():
                    break
                # A probe has no sender address: it must not enter anybody's cache.
                self._request(address, NO_ADDRESS)
                await asyncio.wait([found], timeout=spacing if left else listen)
            if found.done():
                return found.result()
            if not self._channel.running:
                raise KernelError(f"probe {address} on {self._channel.name}: no carrier", code=errno.ENETDOWN)
            return None

    def announce(self, address: IPv4Address, count: int = 2) -> None:
        """Broadcast that the address is here (gratuitous ARP, RFC 5227 2.3), so that stale caches learn it.

        The first at once; the others follow every ANNOUNCE_INTERVAL for as long as ``defend`` names the address: an
        address that was given up must not be announced again. Raises KernelError where the first cannot be sent.
        """
        self._defence.announce(address, count)

    async def resolve(self, target: IPv4Address, source: IPv4Address, timeout: float = 0.4) -> Mac | None:
        """The MAC that answers for ``target`` within ``timeout`` seconds, or None. Raises KernelError: not known.

        A MAC that answered before is asked alone first (RFC 1122 2.3.2.1): a broadcast from every node in every second
        would be heard by all. It has half of the time, then all are asked: the gateway may have moved.
        """
        # The question tells its readers that the source is here: an address that was taken away must not say so.
        require_address(source)
        loop = asyncio.get_running_loop()
        self._forget_gateways(loop.time())
        destinations = [BROADCAST]
        if target in self._gateways:
            known, _ = self._gateways[target]
            self._gateways[target] = known, loop.time()
            destinations.insert(0, known)
        with self._first(lambda packet: packet.sender == target) as found:
            for destination in destinations:
                self._request(target, source, destination)
                await asyncio.wait([found], timeout=timeout / len(destinations))
                if found.done():
                    self._learn(target, found.result(), loop.time())
                    return found.result()
            return None

    def defend(self, addresses: Iterable[IPv4Address]) -> None:
        """Watch over all configured addresses of the link; set again whenever it may have changed.

        Raises KernelError where the link is not there; the addresses are kept for when it is.
        """
        defended = tuple(addresses)
        self._defence.set(defended)
        if defended:
            self._channel.open()

    def close(self) -> None:
        """Idempotent; whoever waits for a packet gets a KernelError."""
        self._defence.stop()
        self._channel.close()
        self._interrupted(KernelError(f"ARP on {self._channel.name} was closed"))

    def _request(self, target: IPv4Address, source: IPv4Address, destination: Mac = BROADCAST) -> None:
        self._channel.send(ArpPacket(REQUEST, self._channel.mac, source, NO_MAC, target), destination)

    @contextmanager
    def _first(self, matches: Callable[[ArpPacket], bool]) -> Iterator[asyncio.Future[Mac]]:
        """The sender MAC of the first packet of another host that matches, or the KernelError that ended listening."""
        waiting = (matches, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            yield waiting[1]
        finally:
            self._waiting.remove(waiting)
            if not waiting[1].cancel() and not waiting[1].cancelled():
                # Looked at, so that nobody complains of an error that came when the answer was there already.
                waiting[1].exception()

    async def _settled(self) -> None:
        for _ in range(round(SETTLE / TICK)):
            if self._channel.running:
                return
            await asyncio.sleep(TICK)
        raise KernelError(f"{self._channel.name} has no carrier", code=errno.ENETDOWN)

    def _received(self, packet: ArpPacket) -> None:
        waiting = [found for matches, found in self._waiting if matches(packet) and not found.done()]
        if not waiting and packet.sender not in self._defence and packet.sender not in self._gateways:
            return
        if packet.sender_mac in self._own_macs():
            return
        for found in waiting:
            found.set_result(packet.sender_mac)
        if packet.sender in self._gateways:
            self._learn(packet.sender, packet.sender_mac, self._gateways[packet.sender][1])
        if packet.sender in self._defence:
            self._defence.conflict(packet.sender, packet.sender_mac)

    def _interrupted(self, error: KernelError) -> None:
        for _, found in self._waiting:
            if not found.done():
                found.set_exception(error)

    def _learn(self, gateway: IPv4Address, mac: Mac, resolved: float) -> None:
        known, _ = self._gateways.get(gateway, (mac, resolved))
        self._gateways[gateway] = mac, resolved
        if known != mac:
            self._on_gateway_change(gateway, known, mac)

    def _forget_gateways(self, now: float) -> None:
        for gateway, (_, resolved) in list(self._gateways.items()):
            if now - resolved > GATEWAY_MEMORY:
                del self._gateways[gateway]


def claims(packet: ArpPacket, address: IPv4Address) -> bool:
    """Whether the sender has the address, or is about to take it (RFC 5227 2.1.1)."""
    return packet.sender == address or (
        packet.operation == REQUEST and packet.sender == NO_ADDRESS and packet.target == address
    )
