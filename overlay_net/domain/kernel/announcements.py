"""What must be announced to the neighbours: each of our addresses, with everything that decides where they find it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from overlay_net.domain.kernel.ownership import find_own_candidates, owns_address_anywhere, owns_link
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from overlay_net.model.net import IpAddress


@dataclass(frozen=True, slots=True)
class Announcement:
    """An address as its neighbours see it. It is announced again when anything of this changes.

    The caches of neighbours depend on the MAC, those of switches also on the port: a link that was re-created, went
    down, lost its carrier or got another master may be behind another one. An address that was set again may have been
    used by another host meanwhile.
    """

    link: str
    address: IpAddress
    mac: str
    index: int
    masters: tuple[int | None, ...]
    """Of the link, and of the parent of an overlay link."""
    interruptions: tuple[int, int]
    set_at: int


def find_announcements(observed: Observed, mark: OwnershipMark) -> frozenset[Announcement]:
    """Return what is to be announced now: our addresses that are in use, on Ethernet links that are up."""
    links = {link.index: link for link in observed.links}
    return frozenset(
        Announcement(
            link.name,
            address.interface.ip,
            link.mac,
            link.index,
            tuple(_masters(link, links, mark)),
            link.interruptions,
            address.set_at,
        )
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


def _masters(link: Link, links: Mapping[int, Link], mark: OwnershipMark) -> Iterator[int | None]:
    yield link.master
    parent = links.get(link.parent) if link.parent is not None and owns_link(link, mark) else None
    if parent is not None:
        yield parent.master
