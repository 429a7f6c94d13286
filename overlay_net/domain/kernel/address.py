"""Plans the overlay address on its link, and the removal of managed addresses elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass

from overlay_net.domain.kernel.address_order import plan_order
from overlay_net.domain.kernel.connected_route import connected_metric
from overlay_net.domain.kernel.link import LinkPlan
from overlay_net.domain.kernel.ownership import find_own_candidates, owns_address_anywhere, owns_link
from overlay_net.domain.kernel.present_address import find_present, find_primary
from overlay_net.model.kernel import Address, Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress, AddLocalRoute, DeleteAddress, Problem
from overlay_net.model.net import IpInterface

ADDRESS_TENTATIVE = "AddressTentative"
"""Problem reason for an IPv6 address that is on the link but not in use yet."""
LOCAL_ROUTE_MISSING = "LocalRouteMissing"


@dataclass(frozen=True, slots=True)
class AddressPlan:
    add: tuple[AddAddress | AddLocalRoute | DeleteAddress, ...] = ()
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
) -> tuple[tuple[AddAddress | AddLocalRoute | DeleteAddress, ...], tuple[Problem, ...]]:
    """Plan the desired address; while the desired link is impossible, a remaining managed link keeps it."""
    address = desired.address
    if desired.link is None or address is None:
        return (), ()
    name = link.name if link else desired.link.name
    add = AddAddress(name, address, connected_metric(desired, observed, mark))
    present = find_present(address, observed, mark, link)
    if present is None or link is None:
        return (add,), ()
    if present.dad_failed:
        # The kernel probes only when an address is added, so re-add it; the agent decides when to retry.
        return (DeleteAddress(name, address), add), ()
    if present.tentative:
        return (), (Problem(ADDRESS_TENTATIVE, f"duplicate address detection is running for {address.ip}"),)
    if not present.has_local_route and link.up:
        return _restore_local_route(add)
    return plan_order(present, add, desired, observed, mark)


def _restore_local_route(
    add: AddAddress,
) -> tuple[tuple[AddAddress | AddLocalRoute | DeleteAddress, ...], tuple[Problem, ...]]:
    """The kernel accepts no packets to the address, so it cannot be worse to add it again.

    The kernel would delete a restored IPv4 route with its address, but not an IPv6 one. An IPv4 address that is added
    again would be a secondary one of its subnet.
    """
    message = f"the kernel accepts no packets to {add.interface.ip}: its route in table local is missing"
    problem = Problem(LOCAL_ROUTE_MISSING, message)
    if add.interface.version == 4:
        return (AddLocalRoute(add.link, add.interface),), (problem,)
    return (DeleteAddress(add.link, add.interface), add), (problem,)


def _obsolete(
    target: IpInterface | None, carrier: Link | None, observed: Observed, mark: OwnershipMark
) -> Iterator[Address]:
    """Return the managed addresses other than the desired one on ``carrier``."""
    links = {link.index: link for link in observed.links}
    on_carrier = observed.address_index.on(carrier.index) if carrier is not None else ()
    for address in dict.fromkeys((*find_own_candidates(observed, mark), *on_carrier)):
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

    Those of its subnet are, unless promote_secondaries is set, if ours is the primary one.
    """
    link = observed.find_link_at(address.link)
    if link is None or owns_link(link, mark) or address.interface.version == 6:
        return None
    if observed.sysctls.get((link.name, "promote_secondaries")) == "1":
        return None
    if find_primary(address, observed) != address:
        return None
    network = address.interface.network
    subnet = (each for each in observed.address_index.on(address.link) if each.interface.network == network)
    return next((each.interface for each in subnet if not owns_address_anywhere(each, observed, mark)), None)
