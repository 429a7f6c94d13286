"""The overlay address: on the link where it belongs, and our addresses nowhere else."""

from collections.abc import Iterator
from dataclasses import dataclass

from overlay_net.domain.kernel.link import LinkPlan
from overlay_net.domain.kernel.ownership import owns_address, owns_link
from overlay_net.model.kernel import Address, Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress, DeleteAddress, Problem
from overlay_net.model.net import IpInterface

ADDRESS_TENTATIVE = "AddressTentative"
"""Reason of the problem of an IPv6 address that is on the link and not yet in use."""


@dataclass(frozen=True, slots=True)
class AddressPlan:
    add: tuple[AddAddress | DeleteAddress, ...] = ()
    drop: tuple[DeleteAddress, ...] = ()
    problems: tuple[Problem, ...] = ()


def is_ours(address: Address, observed: Observed, mark: OwnershipMark) -> bool:
    """An address of ours: on our link, or with our protocol number wherever it is (link_mode ``address``)."""
    marked = observed.keeps_address_protocol and address.protocol == mark.protocol and not address.link_local
    return marked or owns_address(address, observed, mark)


def plan_addresses(desired: Desired, observed: Observed, mark: OwnershipMark, link: LinkPlan) -> AddressPlan:
    """What to add before the routes, and what to drop after them.

    Links of ours that are deleted or swept take their addresses along.
    """
    wanted = desired.address if desired.link is not None else None
    if wanted is not None and link.problem is not None and link.link is None:
        return AddressPlan()
    carrier = link.link.index if link.link is not None and wanted is not None else None
    add: tuple[AddAddress | DeleteAddress, ...] = ()
    drop, problems = [], []
    if desired.link is not None and wanted is not None:
        # While the wished place cannot be had, a link of ours that is left goes on carrying the address.
        place = link.link.name if link.link else desired.link.name
        there = [
            each
            for each in observed.addresses
            if each.interface == wanted and each.link == carrier and is_ours(each, observed, mark)
        ]
        if not there:
            add = (AddAddress(place, wanted),)
        elif there[0].dad_failed:
            # The kernel asks again only for an address that is added anew; whether that is the time is the agent's.
            add = (DeleteAddress(place, wanted), AddAddress(place, wanted))
        elif there[0].tentative:
            message = f"the kernel asks whether somebody else has {wanted.ip}"
            problems.append(Problem(ADDRESS_TENTATIVE, message))
    names = {each.index: each.name for each in observed.links}
    for address in _unwanted(wanted, carrier, observed, mark):
        neighbour = _would_fall_too(address, observed, mark)
        name = names[address.link]
        if neighbour is None:
            drop.append(DeleteAddress(name, address.interface))
        else:
            message = f"{address.interface} stays on {name}: the kernel would drop {neighbour} of somebody else with it"
            problems.append(Problem("AddressShared", f"{message}; set net.ipv4.conf.{name}.promote_secondaries=1"))
    return AddressPlan(add, tuple(sorted(drop, key=str)), tuple(problems))


def _unwanted(
    wanted: IpInterface | None, carrier: int | None, observed: Observed, mark: OwnershipMark
) -> Iterator[Address]:
    our_links = {link.index for link in observed.links if owns_link(link, mark)}
    there = {link.index for link in observed.links}
    for address in observed.addresses:
        if address.link not in there or (address.link in our_links and address.link != carrier):
            continue
        if address.link == carrier and address.interface == wanted:
            continue
        # The same address with another prefix length was set on the link by the earlier operator.
        theirs = wanted is not None and address.link == carrier and address.interface.ip == wanted.ip
        if is_ours(address, observed, mark) or (theirs and carrier in our_links):
            yield address


def _would_fall_too(address: Address, observed: Observed, mark: OwnershipMark) -> IpInterface | None:
    """Somebody else's address that Linux deletes together with ours, on an interface that is not ours.

    The first address of a subnet is its primary one; the later ones are secondary, and go with it unless
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
    return next((each.interface for each in subnet if not is_ours(each, observed, mark)), None)
