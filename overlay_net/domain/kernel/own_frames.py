"""Own frames: what identifies the frames that this host sends, to distinguish them from those of other hosts."""

from collections.abc import Container
from dataclasses import dataclass

from overlay_net.domain.kernel.ownership import owns_link
from overlay_net.model.kernel import Link, Observed, OwnershipMark
from overlay_net.model.net import IpAddress


@dataclass(frozen=True, slots=True)
class MacvlanLink:
    """A managed link with a MAC of its own, which no other host may have."""

    name: str
    parent: str
    mac: str


@dataclass(frozen=True, slots=True)
class OwnFrames:
    """From one observation of the kernel."""

    macs: frozenset[str] = frozenset()
    """The MACs of all links: with ``arp_ignore=0`` every one of them answers for all addresses of this host."""
    addresses: frozenset[IpAddress] = frozenset()
    """The addresses of all links, and the one that is about to be configured."""
    macvlan: MacvlanLink | None = None


def find_own_frames(observed: Observed, link: str, mark: OwnershipMark, assigned: IpAddress | None) -> OwnFrames:
    """``link`` is the name of the overlay link, ``assigned`` the overlay address."""
    addresses = {each.interface.ip for each in observed.addresses}
    return OwnFrames(
        frozenset(each.mac for each in observed.links if each.mac),
        frozenset(addresses if assigned is None else addresses | {assigned}),
        _find_macvlan(observed, link, mark),
    )


def _find_macvlan(observed: Observed, name: str, mark: OwnershipMark) -> MacvlanLink | None:
    """The MAC of any other kind of link belongs to the parent, and links in other namespaces may have it as well."""
    names = {each.index: each.name for each in observed.links}
    found = next((each for each in observed.links if each.name == name and owns_link(each, mark)), None)
    if found is None or found.kind != "macvlan" or not found.mac:
        return None
    return MacvlanLink(name, _find_parent(found, names), found.mac)


def _find_parent(link: Link, names: dict[int, str]) -> str:
    return names.get(link.parent, "") if link.parent is not None else ""


def may_be_own(
    sender: IpAddress, target: IpAddress, addresses: Container[IpAddress], probed: Container[IpAddress]
) -> bool:
    """Return whether an ARP frame with our MAC may be one that we sent and the network sent back.

    Ports in hairpin mode, reflective relays (VEPA) and bonds whose ports are not aggregated by the switch do that. We
    send only from our addresses, and probe only an address that we are about to configure.
    """
    return target in probed if sender.is_unspecified else sender in addresses
