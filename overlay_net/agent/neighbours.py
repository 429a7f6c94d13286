"""The other hosts on this node's links: finds address conflicts, and resolves and watches gateways.

IPv4 uses one ArpLink for each link. IPv6 uses neighbour discovery, where the kernel itself detects duplicate addresses;
a probe before the address is added avoids a failed attempt and finds the MAC of the other host.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from overlay_net.adapters.neighbours import (
    Announcements,
    ArpLink,
    Mac,
    MacWatch,
    NeighbourDiscovery,
    link_local,
)
from overlay_net.agent.heard_hosts import HeardHosts
from overlay_net.agent.paced import Paced
from overlay_net.domain.kernel.own_frames import MacConflict, OwnFrames
from overlay_net.model.errors import KernelError
from overlay_net.model.net import IpAddress

log = logging.getLogger(__name__)

CONFLICT_EXPIRY: Final = 60.0
"""Seconds without a packet from the other host after which a conflict is resolved.

A host that sends traffic resolves its neighbours again within half of that time (``base_reachable_time``, arp(7)).
"""

GATEWAY_CHANGE_INTERVAL: Final = 5.0
"""Minimum number of seconds between two reactions to another MAC of a gateway.

Two hosts that answer for one gateway, or forged packets, change it with each packet.
"""

IPV6_TIMEOUT: Final = 0.4
"""Seconds within which the owner of an IPv6 address must answer."""


@dataclass(frozen=True, slots=True)
class AddressConflict:
    """Another host uses an address that is configured here."""

    address: IPv4Address
    mac: Mac
    link: str


class Neighbours:
    """``changed`` is called when another host starts to use our address, and when the MAC of a gateway changes.

    ``own_macs`` returns the MACs of this host; by default those of the last ``recognise``. All methods belong to one
    event loop. The work for one packet does not depend on the number of links, addresses or earlier packets.
    """

    def __init__(self, changed: Callable[[], None], own_macs: Callable[[], Container[Mac]] | None = None) -> None:
        self._changed = changed
        self._own = OwnFrames()
        self._own_macs = own_macs or (lambda: self._own.macs)
        self._links: dict[str, ArpLink] = {}
        self._advertisements: dict[str, Announcements[IPv6Address]] = {}
        self._conflicts = HeardHosts[IPv4Address, AddressConflict](CONFLICT_EXPIRY)
        self._mac_watch = MacWatch(self._record_mac_conflict)
        self._mac_conflicts = HeardHosts[Mac, MacConflict](CONFLICT_EXPIRY)
        self._gateway_changes = Paced(self._follow_gateway_change, GATEWAY_CHANGE_INTERVAL)
        self._logged_errors: dict[str, str] = {}
        """The last logged error of each link that cannot be watched."""
        self._gateway_changed = False
        self._last_change: dict[str, str] = {}
        """The latest change of a gateway's MAC, for the log."""

    def recognise(self, own: OwnFrames) -> None:
        """Take packets with these properties for those of this host. Call this after each observation."""
        self._own = own
        self._mac_watch.set_addresses(own.addresses)
        self._mac_conflicts.keep({own.macvlan.mac} if own.macvlan is not None else frozenset())

    async def find_conflict(self, link: str, address: IpAddress) -> Mac | None:
        """Return the MAC of another host that uses the address or probes for it. Raises KernelError if unknown.

        For IPv6, None proves nothing: the kernel's own detection follows, and flags the address.
        """
        if isinstance(address, IPv4Address):
            self._mac_watch.record_probe(address)
            return await self._arp(link).probe(address)
        source = link_local(link)
        if source is None:
            return None
        mac = await NeighbourDiscovery(link).resolve(address, source, IPV6_TIMEOUT)
        return None if mac is None or mac in self._own_macs() else mac

    def announce(self, link: str, address: IpAddress) -> None:
        """Announce an address after it was added, or after its link came up. Raises KernelError."""
        if isinstance(address, IPv4Address):
            self._arp(link).announce(address)
        else:
            self._advertise(link).announce(address)

    def watch(self, configured: Mapping[str, Iterable[IpAddress]], router: IpAddress | None = None) -> None:
        """Defend the configured addresses of each link, and watch its MAC.

        ``router`` is the overlay gateway if it may answer for every address (proxy ARP).

        Call this after each observation, after ``recognise`` and before ``announce``.
        """
        defended = {
            link: frozenset(each for each in addresses if isinstance(each, IPv4Address))
            for link, addresses in configured.items()
        }
        for link in {*self._links, *defended}:
            self._defend(link, defended.get(link, frozenset()), router)
        for link in {*self._advertisements, *configured}:
            self._advertise(link).keep(each for each in configured.get(link, ()) if isinstance(each, IPv6Address))
        self._conflicts.keep(frozenset[IPv4Address]().union(*defended.values()))
        with self._logged("cannot watch for conflicts of the MAC", "mac"):
            self._mac_watch.watch(self._own.macvlan)

    @property
    def conflicts(self) -> tuple[AddressConflict, ...]:
        """The conflicts with a recent packet, at most one for each address, for the report."""
        return self._conflicts.recent(asyncio.get_running_loop().time())

    @property
    def mac_conflict(self) -> MacConflict | None:
        """Another host that has the MAC of the overlay link, with a recent packet."""
        return next(iter(self._mac_conflicts.recent(asyncio.get_running_loop().time())), None)

    async def resolve(self, link: str, target: IpAddress, source: IpAddress, timeout: float) -> Mac | None:
        """Return the MAC that answers for ``target``, or None. Raises KernelError if unknown."""
        if isinstance(target, IPv4Address) and isinstance(source, IPv4Address):
            return await self._arp(link).resolve(target, source, timeout)
        if isinstance(target, IPv4Address) or isinstance(source, IPv4Address):
            raise KernelError(f"{target} cannot be resolved from {source}: another address family")
        return await NeighbourDiscovery(link).resolve(target, source, timeout)

    def take_gateway_change(self) -> bool:
        """Return whether a gateway's MAC has changed since the last call: a new device may not know our addresses.

        True at most once per GATEWAY_CHANGE_INTERVAL.
        """
        changed, self._gateway_changed = self._gateway_changed, False
        return changed

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
        for advertisements in self._advertisements.values():
            advertisements.stop()
        self._advertisements.clear()
        self._mac_watch.close()
        self._gateway_changes.cancel()

    def _arp(self, name: str) -> ArpLink:
        if name not in self._links:
            self._links[name] = ArpLink(
                name,
                own_macs=self._own_macs,
                on_conflict=lambda address, mac: self._record_conflict(name, address, mac),
                on_gateway_change=lambda gateway, old, new: self._record_gateway_change(name, gateway, old, new),
            )
        return self._links[name]

    def _advertise(self, link: str) -> Announcements[IPv6Address]:
        return self._advertisements.setdefault(link, Announcements(NeighbourDiscovery(link).announce))

    def _defend(self, link: str, addresses: frozenset[IPv4Address], router: IpAddress | None) -> None:
        with self._logged("cannot watch for address conflicts", link):
            self._arp(link).defend(addresses, router if isinstance(router, IPv4Address) else None)

    @contextmanager
    def _logged(self, message: str, key: str) -> Iterator[None]:
        """Log a KernelError, unless it is the same as the last one with this key."""
        try:
            yield
            self._logged_errors.pop(key, None)
        except KernelError as error:
            if self._logged_errors.get(key) != str(error):
                log.warning(message, extra={"error": str(error)})
            self._logged_errors[key] = str(error)

    def _record_gateway_change(self, link: str, gateway: IPv4Address, old: Mac, new: Mac) -> None:
        self._last_change = {"gateway": str(gateway), "link": link, "old": old, "new": new}
        self._gateway_changes.request()

    def _follow_gateway_change(self) -> None:
        log.info("gateway has another MAC", extra=self._last_change)
        self._gateway_changed = True
        self._changed()

    def _record_conflict(self, link: str, address: IPv4Address, mac: Mac) -> None:
        conflict = AddressConflict(address, mac, link)
        if self._conflicts.record(address, conflict, asyncio.get_running_loop().time()):
            log.warning("another host uses our address", extra={"address": str(address), "mac": mac, "link": link})
            self._changed()

    def _record_mac_conflict(self, conflict: MacConflict) -> None:
        now = asyncio.get_running_loop().time()
        # The other host may have several addresses: the first one stays in the report.
        known = self.mac_conflict
        if self._mac_conflicts.record(conflict.link.mac, known or conflict, now):
            fields = {"mac": conflict.link.mac, "link": conflict.link.name, "address": str(conflict.address)}
            log.warning("another host has our MAC", extra=fields)
            self._changed()
