"""Own frames: what identifies the frames that this host sends, to distinguish them from those of other hosts."""

from dataclasses import dataclass
from typing import Final

from overlay_net.domain.kernel.ownership import owns_link
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.net import IpAddress

ECHO_TIME: Final = 10.0
"""Seconds after the removal or the probe of an address for which our packets with it may come back."""


@dataclass(frozen=True, slots=True)
class MacvlanLink:
    """A managed link with a MAC of its own, which no other host may have."""

    name: str
    parent: str
    mac: str


@dataclass(frozen=True, slots=True)
class MacConflict:
    """Another host has the MAC of our link."""

    link: MacvlanLink
    address: IpAddress
    """An address that the other host uses or probes for."""


@dataclass(frozen=True, slots=True)
class OwnFrames:
    """From one observation of the kernel."""

    macs: frozenset[str] = frozenset()
    """The MACs of all links: with ``arp_ignore=0`` every one of them answers for all addresses of this host."""
    addresses: frozenset[int] = frozenset()
    """The IPv4 addresses of all links, and the one that is about to be configured, as numbers."""
    macvlan: MacvlanLink | None = None


def find_own_frames(observed: Observed, link: str, mark: OwnershipMark, assigned: IpAddress | None) -> OwnFrames:
    """``link`` is the name of the overlay link, ``assigned`` the overlay address."""
    addresses = observed.address_index.ipv4
    if assigned is not None and assigned.version == 4 and int(assigned) not in addresses:
        addresses |= {int(assigned)}
    return OwnFrames(
        frozenset(each.mac for each in observed.links if each.mac),
        addresses,
        _find_macvlan(observed, link, mark),
    )


def _find_macvlan(observed: Observed, name: str, mark: OwnershipMark) -> MacvlanLink | None:
    """The MAC of any other kind of link belongs to the parent, and links in other namespaces may have it as well."""
    found = observed.find_link(name)
    if found is None or not owns_link(found, mark) or found.kind != "macvlan" or not found.mac:
        return None
    parent = observed.find_link_at(found.parent)
    return MacvlanLink(name, parent.name if parent is not None else "", found.mac)


class OwnPackets:
    """The ARP packets that this host sends with the MAC of its macvlan link, and that the network may send back to it.

    Ports in hairpin mode, reflective relays (VEPA) and bonds that the switch does not aggregate send them back. This
    host sends only from its addresses, and probes only for an address that it is about to configure. Times are in
    seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._addresses: frozenset[int] = frozenset()
        self._removed: dict[int, float] = {}
        """Each address that this host had, until when a packet from it may be ours."""
        self._probed: dict[IpAddress, float] = {}
        """The same for probes."""

    def set_addresses(self, addresses: frozenset[int], now: float) -> None:
        """Set the IPv4 addresses of this host, with the one that is about to be configured."""
        removed = dict.fromkeys(self._addresses - addresses, now + ECHO_TIME)
        self._removed = {each: until for each, until in self._removed.items() if until > now} | removed
        self._addresses = addresses

    def record_probe(self, address: IpAddress, now: float) -> None:
        """This host probes for the address now."""
        self._probed = {each: until for each, until in self._probed.items() if until > now}
        self._probed[address] = now + ECHO_TIME

    def may_include(self, sender: IpAddress, target: IpAddress, now: float) -> bool:
        """Return whether this host may have sent a packet; otherwise another host has the MAC."""
        if sender.is_unspecified:
            return self._probed.get(target, now) > now
        return int(sender) in self._addresses or self._removed.get(int(sender), now) > now
