"""Finds the overlay address among the observed ones, and the addresses that the kernel prefers to it."""

from overlay_net.domain.kernel.ownership import owns_address_anywhere
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from overlay_net.model.net import IpInterface


def find_present(interface: IpInterface, observed: Observed, mark: OwnershipMark, link: Link | None) -> Address | None:
    """Find the managed address on its link."""
    if link is None:
        return None
    on_link = (each for each in observed.address_index.on(link.index) if each.interface == interface)
    return next((each for each in on_link if owns_address_anywhere(each, observed, mark)), None)


def find_primary(address: Address, observed: Observed) -> Address:
    """Find the address whose subnet route the kernel derives: of an IPv4 subnet on one link, that of the first address.

    The others are secondary: the kernel deletes them with the primary one unless promote_secondaries is set
    (ip-sysctl.rst; __inet_del_ifa in net/ipv4/devinet.c).
    """
    if address.interface.version == 6:
        return address
    on_link = observed.address_index.on(address.link)
    return next(each for each in on_link if each.interface.network == address.interface.network)


def find_preferred(address: Address, observed: Observed, mark: OwnershipMark) -> Address | None:
    """Find a foreign address on the same link that the kernel chooses as the source of masqueraded traffic.

    Of several that fit, it takes the first one of its list: of IPv4 the oldest (inet_select_addr), of IPv6 the latest
    (ipv6_dev_get_saddr).
    """
    network = address.interface.network
    for each in observed.address_index.on(address.link):
        if each == address:
            return None
        if (
            each.interface.version == network.version
            and each.interface.network.prefixlen < network.max_prefixlen
            and each.interface.network.overlaps(network)
            and not (each.link_local or each.deprecated or each.dad_failed)
            and not owns_address_anywhere(each, observed, mark)
        ):
            return each
    return None
