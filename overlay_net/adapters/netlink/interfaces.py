"""Reads links and addresses: all of them, or those that may have changed."""

import errno
import operator
from collections.abc import Iterable, Mapping, Set

from overlay_net.adapters.netlink.bulk.codec import HEADER, find_bodies
from overlay_net.adapters.netlink.interface_messages import parse_address, parse_link
from overlay_net.adapters.netlink.iproute import IpRoute
from overlay_net.adapters.netlink.parsed_dump import ParsedDump
from overlay_net.adapters.netlink.pyroute2_parts import ifaddrmsg, ifinfmsg, rtnl
from overlay_net.adapters.netlink.raw_requests import Message
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Addresses, Link
from overlay_net.model.kernel_changes import EVERYTHING, KernelChanges

RTEXT_FILTER_SKIP_STATS = 8
ADDRESSES_IN_TIME = 200
"""How many addresses are read in the time that a request for those of one link takes."""


class Interfaces:
    """Reads links and addresses repeatedly, of which a node with many pods has hundreds, and thousands with IPVS."""

    def __init__(self) -> None:
        self._links = ParsedDump(rtnl.RTM_NEWLINK, parse_link, tuple[Link, ...])
        self._last_links: tuple[Link, ...] | None = None
        self._dump = ParsedDump(rtnl.RTM_NEWADDR, parse_address, tuple[Address, ...])
        self._dumped: tuple[Address, ...] | None = None
        """The last dump of all addresses; None: those of some links were read after it."""
        self._by_link: dict[int, Addresses] = {}
        self._addresses: Addresses | None = None

    def read_links(self, route: IpRoute, changes: KernelChanges = EVERYTHING) -> tuple[Link, ...]:
        """Raises KernelError and OSError."""
        if self._last_links is None or changes.everything or changes.links:
            self._last_links = self._links.read(route, _all_links, rtnl.RTM_GETLINK)
        return self._last_links

    def read_addresses(self, route: IpRoute, changes: KernelChanges = EVERYTHING) -> Addresses:
        """Raises KernelError and OSError."""
        if self._addresses is None or changes.everything or self._are_too_few(changes.addresses):
            dumped = self._dump.read(route, ifaddrmsg, rtnl.RTM_GETADDR)
            if dumped is not self._dumped or self._addresses is None:
                self._set(_group_by_link(dumped))
            self._dumped = dumped
        elif changes.addresses:
            found = {link: _read_addresses_on(route, link) for link in changes.addresses}
            self._dumped = None
            self._set(self._by_link | found)
        return self._addresses or Addresses()

    def _are_too_few(self, links: Set[int]) -> bool:
        """Return whether it takes less time to read all addresses than those of each of these links."""
        return bool(links) and len(self._addresses or ()) <= ADDRESSES_IN_TIME * len(links)

    def _set(self, found: Mapping[int, tuple[Address, ...]]) -> None:
        """Set the addresses of each link. Those that are unchanged stay the same object, with what it has computed."""
        last = self._by_link
        # In the order of the kernel.
        self._by_link = {
            link: last[link] if link in last and _are_same(last[link], found[link]) else Addresses(found[link])
            for link in sorted(found)
            if found[link]
        }
        if (
            self._addresses is None
            or self._by_link.keys() != last.keys()
            or any(self._by_link[link] is not last[link] for link in last)
        ):
            self._addresses = Addresses.join(self._by_link.values())


def require_link(route: IpRoute, name: str) -> int:
    """Return the index of a link. Raises KernelError if it does not exist, and OSError."""
    message: Message = ifinfmsg()
    message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    missing = KernelError(f"no link {name}", code=errno.ENODEV)
    try:
        datagram = route.get(message, rtnl.RTM_GETLINK)
    except KernelError as error:
        raise missing if error.code == errno.ENODEV else error from None
    link = parse_link(datagram[HEADER.size :])
    if link.name != name:
        # The kernel finds links by their alternative names, too.
        raise missing
    return link.index


def _read_addresses_on(route: IpRoute, link: int) -> tuple[Address, ...]:
    message: Message = ifaddrmsg()
    message["index"] = link
    try:
        datagrams = route.dump_once(message, rtnl.RTM_GETADDR)
    except KernelError as error:
        if error.code != errno.ENODEV:
            raise
        return ()
    found = (parse_address(body) for each in datagrams for body in find_bodies(each, rtnl.RTM_NEWADDR))
    # Kernels before 4.20 do not select.
    return tuple(each for each in found if each is not None and each.link == link)


def _group_by_link(addresses: Iterable[Address]) -> Mapping[int, tuple[Address, ...]]:
    found: dict[int, list[Address]] = {}
    for each in addresses:
        found.setdefault(each.link, []).append(each)
    return {link: tuple(group) for link, group in found.items()}


def _are_same(some: tuple[Address, ...], others: tuple[Address, ...]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _all_links() -> Message:
    """All links, without their counters."""
    message: Message = ifinfmsg()
    message["attrs"] = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    return message
