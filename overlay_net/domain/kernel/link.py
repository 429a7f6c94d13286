"""Plans the overlay link: selects the link, and the changes that it needs.

For the kind ``address`` the link is the private interface itself, which is not changed except for the added address.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from overlay_net.domain.kernel.link_sysctls import plan_link_sysctls, plan_parent_sysctls
from overlay_net.domain.kernel.link_types import refuse_parent
from overlay_net.domain.kernel.ownership import owns_link
from overlay_net.domain.kernel.stacked_link import lies_on
from overlay_net.model.kernel import Desired, DesiredLink, Link, LinkMode, Observed, OwnershipMark
from overlay_net.model.kernel_actions import (
    AddLink,
    AdoptLink,
    DeleteLink,
    KernelAction,
    Problem,
    SetLinkGroup,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
)


@dataclass(frozen=True, slots=True)
class LinkPlan:
    actions: tuple[KernelAction, ...] = ()
    """Actions before those on addresses and routes."""
    link: Link | None = None
    """The observed link, if it is usable after ``actions``."""
    sweep: tuple[KernelAction, ...] = ()
    """Actions after those on routes and addresses: the deletion of managed links that are no longer desired."""
    problem: Problem | None = None


def plan_link(desired: Desired, observed: Observed, mark: OwnershipMark) -> LinkPlan:
    target = desired.link
    managed = [link for link in observed.links if owns_link(link, mark)]
    name = target.name if target and target.kind != "address" else None
    sweep = tuple(DeleteLink(link.index, link.name) for link in managed if link.name != name)
    if target is None:
        return LinkPlan(sweep=sweep)
    parent = observed.find_link(target.parent)
    if parent is None:
        message = target.missing or f"interface {target.parent} does not exist on this node"
        return _keep_link(target, managed, sweep, Problem("ParentMissing", message))
    if target.kind == "address":
        return _plan_address_mode(parent, managed, sweep, observed)
    problem = refuse_parent(parent, target, observed)
    if problem is not None:
        return _keep_link(target, managed, sweep, problem)
    link = observed.find_link(target.name)
    first, rest = _split_sweep(sweep, managed, target, parent, link.mac if link is not None else target.mac)
    plan = _plan_link_of_its_own(link, parent, target, desired, observed, mark)
    return replace(plan, actions=(*first, *plan.actions), sweep=rest)


def _split_sweep(
    sweep: tuple[DeleteLink, ...], managed: list[Link], target: DesiredLink, parent: Link, mac: str
) -> tuple[tuple[DeleteLink, ...], tuple[DeleteLink, ...]]:
    """Return the obsolete links to delete before ours is created or brought up, and the others."""
    excluding = {each.index for each in managed if _excludes(each, target.kind, mac, parent)}
    first = tuple(each for each in sweep if each.index in excluding)
    return first, tuple(each for each in sweep if each.index not in excluding)


def _excludes(other: Link, kind: LinkMode, mac: str, parent: Link) -> bool:
    """Return whether the kernel does not create our link, or not bring it up, while there is another one of ours.

    A parent carries either macvlans or ipvlans (netdev_rx_handler_register), and of two macvlans with one MAC only the
    first one comes up (macvlan_open). Someone may have renamed our link.
    """
    return lies_on(other, parent) and (other.kind != kind or (kind == "macvlan" and other.mac == mac != ""))


def _plan_link_of_its_own(
    link: Link | None, parent: Link, target: DesiredLink, desired: Desired, observed: Observed, mark: OwnershipMark
) -> LinkPlan:
    """Plan without a sweep; ``link`` has the desired name."""
    if link is not None:
        return _plan_existing(link, parent, target, desired, observed, mark)
    other = next((each for each in observed.links if target.name in each.alternative_names), None)
    if other is not None:
        message = f"{target.name} is an alternative name of {other.name}; remove it, or choose another link name"
        return LinkPlan(problem=Problem("LinkNameTaken", message))
    create = _create(target, parent, desired, observed)
    return LinkPlan((*plan_parent_sysctls(parent, observed), *create))


def _keep_link(target: DesiredLink, managed: list[Link], sweep: tuple[KernelAction, ...], problem: Problem) -> LinkPlan:
    """Plan for a parent that is missing or unsuitable: an existing link keeps the address."""
    remaining = next((link for link in managed if link.name == target.name), None)
    return LinkPlan(link=remaining, sweep=sweep, problem=problem)


def _plan_address_mode(
    parent: Link, managed: list[Link], sweep: tuple[KernelAction, ...], observed: Observed
) -> LinkPlan:
    problem = _refuse_address_mode(parent, observed)
    if problem is None:
        return LinkPlan(link=parent, sweep=sweep)
    # A managed link from another mode keeps the address.
    return LinkPlan(link=next(iter(managed), None), problem=problem)


def _refuse_address_mode(parent: Link, observed: Observed) -> Problem | None:
    if not observed.keeps_address_protocol:
        message = "link_mode address requires Linux 5.18: an older kernel does not store who added an address"
        return Problem("KernelTooOld", f"{message}; choose another link_mode")
    vrf = observed.find_link_at(parent.master)
    if vrf is None or not vrf.vrf_table:
        return None
    # The kernel looks up routes of packets from and to a member in the table of its VRF (networking/vrf.rst).
    message = f"{parent.name} belongs to VRF {vrf.name}, where an address does not serve the node and its pods"
    return Problem("ParentInVrf", f"{message}; set link_mode to macvlan or ipvlan, or choose another interface")


def _plan_existing(
    link: Link, parent: Link, target: DesiredLink, desired: Desired, observed: Observed, mark: OwnershipMark
) -> LinkPlan:
    """Plan for a link that already has the desired name: repair, adopt, replace or refuse it."""
    fits = link.kind == target.kind and lies_on(link, parent)
    protect = plan_parent_sysctls(parent, observed)
    if owns_link(link, mark) and not fits:
        create = _create(target, parent, desired, observed)
        return LinkPlan((DeleteLink(link.index, link.name), *protect, *create))
    repair = tuple(_repair(link, parent, target, desired, observed, mark))
    if owns_link(link, mark):
        return LinkPlan((*protect, *repair), link=link)
    if fits and _has_address(link, desired, observed):
        return LinkPlan((AdoptLink(link.name), *protect, *repair), link=link)
    kind = link.kind or "physical"
    message = f"{link.name} is a {kind} link that is not managed by us; rename it, or choose another link name"
    return LinkPlan(problem=Problem("LinkNameTaken", message))


def _create(target: DesiredLink, parent: Link, desired: Desired, observed: Observed) -> tuple[KernelAction, ...]:
    return (
        AddLink(target.name, target.parent, target.kind, target.mode, target.mac),
        *((SetLinkGroup(target.name, target.group),) if target.group else ()),
        *plan_link_sysctls(target.name, parent, desired, observed, new=True),
        SetLinkUp(target.name),
    )


def _repair(
    link: Link, parent: Link, target: DesiredLink, desired: Desired, observed: Observed, mark: OwnershipMark
) -> Iterator[KernelAction]:
    """Plan repairs of an existing link. Its MAC is never changed, because neighbours have cached it."""
    if link.mtu and parent.mtu and link.mtu != parent.mtu:
        # The kernel lowers a macvlan's MTU together with its parent's, and never raises it again.
        yield SetMtu(link.name, parent.mtu)
    if target.kind == "macvlan" and link.mode and link.mode != target.mode:
        yield SetMacvlanMode(link.name, target.mode)
    if link.group != target.group and mark.group in (link.group, target.group):
        yield SetLinkGroup(link.name, target.group)
    yield from plan_link_sysctls(link.name, parent, desired, observed)
    if not link.up:
        yield SetLinkUp(link.name)


def _has_address(link: Link, desired: Desired, observed: Observed) -> bool:
    """Return whether a link without our mark has the address of this node, so the earlier operator created it."""
    address = desired.address
    return address is not None and any(each.link == link.index for each in observed.address_index.at(address.ip))
