"""What must be announced to the neighbours: each of our addresses, with everything that decides where they find it."""

from collections.abc import Iterator
from dataclasses import dataclass

from overlay_net.domain.kernel.link_lookup import with_links_below
from overlay_net.domain.kernel.ownership import find_own_candidates, owns_address_anywhere
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from overlay_net.model.net import IpAddress


@dataclass(frozen=True, slots=True)
class Announcement:
    """An address as its neighbours see it. It is announced again when anything of this changes.

    The caches of neighbours depend on the MAC, those of switches also on the port: a link that was re-created, went
    down, lost its carrier or got another master may be behind another one. An address that was set again may have been
    used by another host meanwhile.

    The links below count as well, as a carrier that was lost for less than a second may be missing in the count of the
    link above: the kernel passes on what the carrier is later, not what it was (net/core/link_watch.c).
    """

    link: str
    address: IpAddress
    mac: str
    index: int
    masters: tuple[int | None, ...]
    """Of the link and those below, from top to bottom."""
    carrier_changes: tuple[int, ...]
    """Of the same links."""
    changed_at: int
    """When the link itself last went down or up. Below, other changes count as well, such as router advertisements."""
    set_at: int


def find_announcements(observed: Observed, mark: OwnershipMark) -> frozenset[Announcement]:
    """Return what is to be announced now: our addresses that are in use, on Ethernet links that are up."""
    links = {link.index: link for link in observed.links}
    return frozenset(
        _announcement(address, tuple(with_links_below(link, links)))
        for link, address in addresses_in_use(observed, mark)
        if link.up and link.ethernet
    )


def addresses_in_use(observed: Observed, mark: OwnershipMark) -> Iterator[tuple[Link, Address]]:
    """Yield our addresses that the kernel answers for, each with its link."""
    links = {link.index: link for link in observed.links}
    for address in find_own_candidates(observed, mark):
        link = links.get(address.link)
        if link is not None and address.in_use and owns_address_anywhere(address, observed, mark):
            yield link, address


def _announcement(address: Address, layers: tuple[Link, ...]) -> Announcement:
    """``layers``: the link of the address, and those below."""
    link = layers[0]
    return Announcement(
        link.name,
        address.interface.ip,
        link.mac,
        link.index,
        masters=tuple(each.master for each in layers),
        carrier_changes=tuple(each.carrier_changes for each in layers),
        changed_at=link.changed_at,
        set_at=address.set_at,
    )
