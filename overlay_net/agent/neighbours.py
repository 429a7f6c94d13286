"""The other hosts on this node's links: is an address free, who else uses ours, where are the gateways.

One ArpLink for each link that is asked for, by name. IPv6 goes through neighbour discovery, whose duplicate detection
is the kernel's: asking beforehand spares the kernel the attempt, and tells who has the address.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Final

from overlay_net.adapters.neighbours import ArpLink, Mac, NeighbourDiscovery, link_local, local_macs
from overlay_net.model.errors import KernelError
from overlay_net.model.net import IpAddress

log = logging.getLogger(__name__)

CONFLICT_MEMORY: Final = 60.0
"""Seconds without a packet of the other host after which a conflict counts as over.

A host that talks asks for its neighbours again within half of that (``base_reachable_time``, arp(7)).
"""


IPV6_PATIENCE: Final = 0.4
"""Seconds in which the owner of an IPv6 address has to answer."""


@dataclass(frozen=True, slots=True)
class AddressConflict:
    """Another host says that a configured address of ours is its own."""

    address: IPv4Address
    mac: Mac
    link: str
    since: datetime
    heard: float
    """Its last packet, on the event loop's clock."""


class Neighbours:
    """``changed`` is called when somebody begins to use an address of ours, and when a gateway has another MAC.

    All methods belong to one event loop.
    """

    def __init__(self, changed: Callable[[], None], own_macs: Callable[[], Container[Mac]] = local_macs) -> None:
        self._changed = changed
        self._own_macs = own_macs
        self._links: dict[str, ArpLink] = {}
        self._conflicts: dict[tuple[IPv4Address, Mac], AddressConflict] = {}
        self._deaf: dict[str, str] = {}
        self._gateway_changed = False

    async def find_conflict(self, link: str, address: IpAddress) -> Mac | None:
        """The MAC of another host that has the address, or takes it now. Raises KernelError: not known.

        For IPv6 None says little: the kernel asks itself, and flags the address.
        """
        if isinstance(address, IPv4Address):
            return await self._arp(link).probe(address)
        source = link_local(link)
        if source is None:
            return None
        mac = await NeighbourDiscovery(link).resolve(address, source, IPV6_PATIENCE)
        return None if mac is None or mac in self._own_macs() else mac

    def announce(self, link: str, address: IpAddress) -> None:
        """After an address was added, and again when its link came up. Raises KernelError."""
        if isinstance(address, IPv4Address):
            self._arp(link).announce(address)
        else:
            NeighbourDiscovery(link).announce(address)

    def watch(self, configured: Mapping[str, Iterable[IpAddress]]) -> None:
        """The addresses that each link has now; to be called before ``announce``, and after each look at the kernel."""
        desired = {
            link: frozenset(each for each in addresses if isinstance(each, IPv4Address))
            for link, addresses in configured.items()
        }
        for link in {*self._links, *desired}:
            addresses = desired.get(link, frozenset())
            try:
                self._arp(link).defend(addresses)
                self._deaf.pop(link, None)
            except KernelError as error:
                if self._deaf.get(link) != str(error):
                    log.warning("address conflicts are not noticed: %s", error)
                self._deaf[link] = str(error)
        every = frozenset[IPv4Address]().union(*desired.values())
        self._conflicts = {key: each for key, each in self._conflicts.items() if key[0] in every}

    @property
    def conflicts(self) -> tuple[AddressConflict, ...]:
        """Those of which something was heard lately, for the report."""
        now = asyncio.get_running_loop().time()
        self._conflicts = {key: each for key, each in self._conflicts.items() if now - each.heard <= CONFLICT_MEMORY}
        return tuple(self._conflicts.values())

    async def resolve(self, link: str, target: IpAddress, source: IpAddress, timeout: float) -> Mac | None:
        """The MAC that answers for ``target``, or None. Raises KernelError: not known."""
        if isinstance(target, IPv4Address) and isinstance(source, IPv4Address):
            return await self._arp(link).resolve(target, source, timeout)
        if isinstance(target, IPv4Address) or isinstance(source, IPv4Address):
            raise KernelError(f"{target} cannot be asked from {source}")
        return await NeighbourDiscovery(link).resolve(target, source, timeout)

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _arp(self, name: str) -> ArpLink:
        if name not in self._links:
            self._links[name] = ArpLink(
                name,
                own_macs=self._own_macs,
                on_conflict=lambda address, mac: self._conflict(name, address, mac),
                on_gateway_change=lambda gateway, old, new: self._other_gateway(name, gateway, old, new),
            )
        return self._links[name]

    def take_gateway_change(self) -> bool:
        """Whether a gateway has another MAC than before, since this was last asked: it may not know our addresses."""
        changed, self._gateway_changed = self._gateway_changed, False
        return changed

    def _other_gateway(self, link: str, gateway: IPv4Address, old: Mac, new: Mac) -> None:
        log.info("gateway has another MAC", extra={"gateway": str(gateway), "link": link, "before": old, "now": new})
        self._gateway_changed = True
        self._changed()

    def _conflict(self, link: str, address: IPv4Address, mac: Mac) -> None:
        now = asyncio.get_running_loop().time()
        known = self._conflicts.get((address, mac))
        if known is not None and now - known.heard <= CONFLICT_MEMORY:
            self._conflicts[address, mac] = replace(known, heard=now)
            return
        self._conflicts[address, mac] = AddressConflict(address, mac, link, datetime.now(UTC), now)
        log.warning("another host uses our address", extra={"address": str(address), "mac": mac, "link": link})
        self._changed()
