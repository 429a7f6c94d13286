"""ARP on one link: probes for address conflicts, resolves gateways, announces and defends our addresses.

Packets whose sender MAC belongs to this host are never evidence of another host: with ``arp_ignore=0`` the parent
and every sibling macvlan answer for all addresses of the host.
"""

import asyncio
import errno
import random
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from typing import Final

from overlay_net.adapters.neighbours.address_defence import AddressDefence, OnConflict
from overlay_net.adapters.neighbours.arp_packet import BROADCAST, NO_ADDRESS, NO_MAC, REQUEST, ArpPacket, Mac
from overlay_net.adapters.neighbours.arp_socket import ArpSocket
from overlay_net.adapters.neighbours.interface import require_address
from overlay_net.adapters.neighbours.proxy_router import ProxyRouter
from overlay_net.model.errors import KernelError

CARRIER_TIMEOUT: Final = 1.0
"""Seconds that the kernel may take to report the carrier of a link that was just set up (net/core/link_watch.c)."""
CARRIER_POLL: Final = 0.02
GATEWAY_MAX_AGE: Final = 60.0
"""Seconds after its last resolution for which a gateway's MAC is cached and watched."""

OnGatewayChange = Callable[[IPv4Address, Mac, Mac], None]


class ArpLink:
    """ARP on one link. Needs CAP_NET_RAW. The socket is opened on first use, and again after the link was re-created.

    ``own_macs`` returns the MACs of this host's other links; it is called for each packet.
    ``on_conflict(address, mac)`` is called for each packet of another host that uses a defended address.
    ``on_gateway_change(gateway, old, new)`` is called when the MAC of a gateway that is resolved regularly changes.
    """

    def __init__(
        self,
        name: str,
        *,
        own_macs: Callable[[], Container[Mac]] = frozenset,
        on_conflict: OnConflict = lambda address, mac: None,
        on_gateway_change: OnGatewayChange = lambda gateway, old, new: None,
    ) -> None:
        self._socket = ArpSocket(name, self._received, self._interrupted)
        self._own_macs = own_macs
        self._mac: Mac = ""
        """The MAC that the last packet was sent with."""
        self._defence = AddressDefence(lambda address: self._request(address, address), on_conflict)
        self._router = ProxyRouter(self._ask)
        self._on_gateway_change = on_gateway_change
        self._waiting: list[tuple[Callable[[ArpPacket], bool], asyncio.Future[Mac]]] = []
        self._gateways: dict[IPv4Address, tuple[Mac, float]] = {}

    async def probe(
        self, address: IPv4Address, *, probes: int = 3, spacing: float = 0.2, listen: float = 0.4, delay: float = 0.1
    ) -> Mac | None:
        """Return the MAC of a host that uses ``address`` or is probing for it, or None (RFC 5227 2.1.1).

        The probe is shorter than the RFC's 4 to 7 s (3 probes 1 to 2 s apart, up to 1 s before, 2 s after), which suit
        hosts that choose addresses themselves behind slow bridges. Here an IPAM assigns an address once, a node waits
        for it, and ``defend`` keeps watching. Two hosts that start together detect each other, as each listens for
        longer than the spacing of the other's probes. Raises KernelError if the link cannot be probed.
        """
        self._socket.open()
        with self._first(lambda packet: is_conflict(packet, address)) as found:
            await self._wait_for_carrier()
            await asyncio.wait([found], timeout=random.uniform(0, delay))
            for remaining in reversed(range(probes)):
                if found.done():
                    break
                # A probe has no sender address, so it does not change any ARP cache.
                self._request(address, NO_ADDRESS)
                await self._wait(found, spacing if remaining else listen)
            if found.done():
                return found.result()
            if not self._socket.running:
                raise KernelError(f"probe {address} on {self._socket.name}: no carrier", code=errno.ENETDOWN)
            return None

    def announce(self, address: IPv4Address, count: int = 2) -> None:
        """Broadcast ARP announcements of the address (gratuitous ARP, RFC 5227 2.3), which update stale caches.

        The first is sent at once; the others follow every ANNOUNCE_INTERVAL while the address is defended: a removed
        address must not be announced again. Raises KernelError if the first cannot be sent.
        """
        self._defence.announce(address, count)

    async def resolve(self, target: IPv4Address, source: IPv4Address, timeout: float = 0.4) -> Mac | None:
        """Return the MAC that answers for ``target`` within ``timeout`` seconds, or None. Raises KernelError.

        A MAC that answered before is queried first, by unicast (RFC 1122 2.3.2.1), because broadcasts from every node
        each second would reach all hosts. After half of the timeout the request is broadcast: the gateway may have
        moved.
        """
        # A request updates caches with its source, so a removed address must not be the source.
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
                await self._wait(found, timeout / len(destinations))
                if found.done():
                    self._learn(target, found.result(), loop.time())
                    return found.result()
            return None

    def defend(self, addresses: Iterable[IPv4Address], router: IPv4Address | None = None) -> None:
        """Defend all configured addresses of the link; call again when they or the link may have changed.

        ``router`` is the gateway if it may answer for every address: a host that also answers for it claims none.
        Raises KernelError if the link does not exist; the addresses are remembered until it does.
        """
        defended = tuple(addresses)
        self._defence.set(defended)
        self._router.set(router)
        if defended:
            self._socket.open()

    def close(self) -> None:
        """Close the socket; pending probes and resolutions fail with KernelError. Idempotent."""
        self._defence.stop()
        self._socket.close()
        self._interrupted(KernelError(f"ARP on {self._socket.name} was closed"))

    def _request(self, target: IPv4Address, source: IPv4Address, destination: Mac = BROADCAST) -> None:
        self._mac = self._socket.mac
        self._socket.send(ArpPacket(REQUEST, self._mac, source, NO_MAC, target), destination)

    def _ask(self, router: IPv4Address, source: IPv4Address) -> None:
        # Without a carrier no gateway answers, and the claim counts after a while.
        with suppress(KernelError):
            self._request(router, source)

    @contextmanager
    def _first(self, matches: Callable[[ArpPacket], bool]) -> Iterator[asyncio.Future[Mac]]:
        """The sender MAC of the first matching packet of another host, or the KernelError that ended listening."""
        waiting = (matches, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            yield waiting[1]
        finally:
            self._waiting.remove(waiting)
            if not waiting[1].cancel() and not waiting[1].cancelled():
                # Retrieve the exception, so that asyncio does not log an error that occurred after the answer.
                waiting[1].exception()

    async def _wait(self, found: asyncio.Future[Mac], timeout: float) -> None:
        """Wait for an answer; one that has arrived by the timeout counts, even behind many other packets."""
        await asyncio.wait([found], timeout=timeout)
        if not found.done():
            self._socket.drain()

    async def _wait_for_carrier(self) -> None:
        for _ in range(round(CARRIER_TIMEOUT / CARRIER_POLL)):
            if self._socket.running:
                return
            await asyncio.sleep(CARRIER_POLL)
        raise KernelError(f"{self._socket.name} has no carrier", code=errno.ENETDOWN)

    def _received(self, packet: ArpPacket) -> None:
        self._router.heard(packet)
        waiting = [found for matches, found in self._waiting if matches(packet) and not found.done()]
        if not waiting and packet.sender not in self._defence and packet.sender not in self._gateways:
            return
        if packet.sender_mac == self._mac or packet.sender_mac in self._own_macs():
            return
        for found in waiting:
            found.set_result(packet.sender_mac)
        if packet.sender in self._gateways:
            self._learn(packet.sender, packet.sender_mac, self._gateways[packet.sender][1])
        if packet.sender in self._defence and not self._router.may_have_sent(packet, asyncio.get_running_loop().time()):
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
            if now - resolved > GATEWAY_MAX_AGE:
                del self._gateways[gateway]


def is_conflict(packet: ArpPacket, address: IPv4Address) -> bool:
    """Return whether the sender uses the address or is probing for it (RFC 5227 2.1.1)."""
    return packet.sender == address or (packet.is_probe and packet.target == address)
