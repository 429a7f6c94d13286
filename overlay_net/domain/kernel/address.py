"""Plans the overlay address on its link, and the removal of managed addresses elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass

from overlay_net.domain.kernel.link import LinkPlan
from overlay_net.domain.kernel.ownership import owns_address_anywhere, owns_link
from overlay_net.model.kernel import Address, Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress, DeleteAddress, Problem
from overlay_net.model.net import IpInterface

ADDRESS_TENTATIVE = "AddressTentative"
"""Problem reason for an IPv6 address that is on the link but not in use yet."""


@dataclass(frozen=True, slots=True)
class AddressPlan:
    add: tuple[AddAddress | DeleteAddress, ...] = ()
    """Actions before those on routes."""
    drop: tuple[DeleteAddress, ...] = ()
    """Actions after those on routes."""
    problems: tuple[Problem, ...] = ()


def plan_addresses(desired: Desired, observed: Observed, mark: OwnershipMark, link: LinkPlan) -> AddressPlan:
    """Plan the address changes. The addresses of deleted links are deleted with them."""
    target = desired.address if desired.link is not None else None
    if target is not None and link.problem is not None and link.link is None:
        return AddressPlan()
    add, problems = _plan_desired(desired, observed, mark, link.link)
    carrier = link.link if target is not None else None
    drop: list[DeleteAddress] = []
    names = {each.index: each.name for each in observed.links}
    for address in _obsolete(target, carrier, observed, mark):
        name = names[address.link]
        foreign = _foreign_secondary(address, observed, mark)
        if foreign is None:
            drop.append(DeleteAddress(name, address.interface))
        else:
            message = f"{address.interface} stays on {name}: the kernel would delete the foreign {foreign} with it"
            fix = f"set net.ipv4.conf.{name}.promote_secondaries=1"
            problems = (*problems, Problem("AddressShared", f"{message}; {fix}"))
    return AddressPlan(add, tuple(sorted(drop, key=str)), problems)


def _plan_desired(
    desired: Desired, observed: Observed, mark: OwnershipMark, link: Link | None
) -> tuple[tuple[AddAddress | DeleteAddress, ...], tuple[Problem, ...]]:
    """Plan the desired address; while the desired link is impossible, a remaining managed link keeps it."""
    address = desired.address
    if desired.link is None or address is None:
        return (), ()
    name = link.name if link else desired.link.name
    present = _find_present(address, observed, mark, link)
    if present is None:
        return (AddAddress(name, address),), ()
    if present.dad_failed:
        # The kernel probes only when an address is added, so re-add it; the agent decides when to retry.
        return (DeleteAddress(name, address), AddAddress(name, address)), ()
    if present.tentative:
        return (), (Problem(ADDRESS_TENTATIVE, f"duplicate address detection is running for {address.ip}"),)
    return (), ()


def _find_present(address: IpInterface, observed: Observed, mark: OwnershipMark, link: Link | None) -> Address | None:
    if link is None:
        return None
    on_link = (each for each in observed.addresses if each.link == link.index and each.interface == address)
    return next((each for each in on_link if owns_address_anywhere(each, observed, mark)), None)


def _obsolete(
    target: IpInterface | None, carrier: Link | None, observed: Observed, mark: OwnershipMark
) -> Iterator[Address]:
    """Return the managed addresses other than the desired one on ``carrier``."""
    links = {link.index: link for link in observed.links}
    for address in observed.addresses:
        link = links.get(address.link)
        if link is None or (owns_link(link, mark) and link != carrier):
            # This plan deletes the link together with its addresses.
            continue
        if link == carrier and address.interface == target:
            continue
        if owns_address_anywhere(address, observed, mark) or (
            link == carrier and owns_link(link, mark) and _has_other_length(address, target)
        ):
            yield address


def _has_other_length(address: Address, target: IpInterface | None) -> bool:
    """Return whether this is the desired address with another prefix length, as set by the earlier operator."""
    return target is not None and address.interface.ip == target.ip


def _foreign_secondary(address: Address, observed: Observed, mark: OwnershipMark) -> IpInterface | None:
    """Find a foreign address on a foreign interface that Linux would delete together with ours.

    The first address of a subnet is its primary address; the others are secondary, and are deleted with it unless
    promote_secondaries is set (ip-sysctl.rst; __inet_del_ifa in net/ipv4/devinet.c).
    """
    link = next((link for link in observed.links if link.index == address.link), None)
    if link is None or owns_link(link, mark) or address.interface.version == 6:
        return None
    if observed.sysctls.get((link.name, "promote_secondaries")) == "1":
        return None
    subnet = [
        each
        for each in observed.addresses
        if each.link == address.link and each.interface.network == address.interface.network
    ]
    if subnet[0] != address:
        return None
    return next((each.interface for each in subnet if not owns_address_anywhere(each, observed, mark)), None)
