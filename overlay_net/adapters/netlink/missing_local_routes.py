"""Marks our addresses without a local route, to which the kernel accepts no packets."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace

from overlay_net.adapters.netlink.bulk.local_routes import has_local_route
from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket
from overlay_net.model.kernel import Address, Addresses, Link, OwnershipMark


class MissingLocalRoutes:
    """Checks addresses repeatedly; if nothing has changed, the result is the same object as before."""

    def __init__(self, mark: OwnershipMark) -> None:
        self._mark = mark
        self._checked = Addresses()
        self._missing: frozenset[Address] = frozenset()
        self._result = Addresses()

    def mark_in(self, kernel: NetlinkSocket, addresses: Addresses, links: Iterable[Link]) -> Addresses:
        """Return the addresses, of which those that may be ours have been checked. Raises KernelError and OSError."""
        in_use = self._find_in_use(addresses, links)
        missing = frozenset(each for each in in_use if not has_local_route(kernel, each.interface.ip))
        if not missing:
            return addresses
        if self._checked is not addresses or self._missing != missing:
            self._checked, self._missing = addresses, missing
            self._result = Addresses(_mark(addresses, missing))
        return self._result

    def _find_in_use(self, addresses: Addresses, links: Iterable[Link]) -> Iterator[Address]:
        """Yield the addresses that may be ours and have a local route, unless another process has deleted it."""
        up = {link.index: link for link in links if link.up}
        managed = (each for link in up.values() if link.alias == self._mark.alias for each in addresses.on(link.index))
        may_be_ours = dict.fromkeys((*addresses.marked(self._mark.protocol), *managed))
        # The kernel adds the route of an IPv6 address when duplicate address detection ends.
        return (each for each in may_be_ours if each.link in up and each.in_use and not each.link_local)


def _mark(addresses: Addresses, missing: Set[Address]) -> Iterator[Address]:
    # The link is compared first: the hash of an address is slow for thousands.
    links = {each.link for each in missing}
    for each in addresses:
        yield replace(each, has_local_route=False) if each.link in links and each in missing else each
