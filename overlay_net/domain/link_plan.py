"""The overlay link: which one is it, and what is missing to it."""

from dataclasses import dataclass

from overlay_net.domain.ownership import owns_link
from overlay_net.model.kernel import (
    AddLink,
    AdoptLink,
    DeleteLink,
    Desired,
    KernelAction,
    Link,
    Marks,
    Observed,
    Problem,
    SetLinkUp,
    SetSysctl,
)

LINK_SYSCTLS = (
    # Loose: an on-premise host may speak first, from a subnet that no route of ours covers. The kernel takes the
    # highest of "all" and the link, so a strict "all" cannot undo this (ip-sysctl.rst, rp_filter).
    ("rp_filter", "2"),
    # Answer ARP only for addresses of this link, and only with them (ip-sysctl.rst, arp_ignore, arp_announce).
    ("arp_ignore", "1"),
    ("arp_announce", "2"),
    # Without it the kernel drops a subnet's secondary addresses together with its primary one.
    ("promote_secondaries", "1"),
)


@dataclass(frozen=True, slots=True)
class LinkPlan:
    actions: tuple[KernelAction, ...] = ()
    """Before addresses and routes."""
    link: Link | None = None
    """The link as it is now, where it is usable once ``actions`` are done."""
    sweep: tuple[KernelAction, ...] = ()
    """After routes and addresses: links of ours that nobody wants any more."""
    problem: Problem | None = None


def plan_link(desired: Desired, observed: Observed, marks: Marks) -> LinkPlan:
    wanted = desired.link
    ours = [link for link in observed.links if owns_link(link, marks)]
    name = wanted.name if wanted else None
    sweep = tuple(DeleteLink(link.index, link.name) for link in ours if link.name != name)
    if wanted is None:
        return LinkPlan(sweep=sweep)
    parent = next((link for link in observed.links if link.name == wanted.parent), None)
    if parent is None:
        message = f"interface {wanted.parent} does not exist on this node"
        left = next((link for link in ours if link.name == wanted.name), None)
        return LinkPlan(link=left, sweep=sweep, problem=Problem("ParentMissing", message))
    hygiene = _parent_hygiene(parent, observed)
    fresh: tuple[KernelAction, ...] = (
        AddLink(wanted.name, wanted.parent),
        *(SetSysctl(wanted.name, key, value) for key, value in LINK_SYSCTLS),
        SetLinkUp(wanted.name),
    )
    present = next((link for link in observed.links if link.name == wanted.name), None)
    if present is None:
        return LinkPlan((*hygiene, *fresh), sweep=sweep)
    fits = present.kind == "macvlan" and present.parent == parent.index
    adopt: tuple[KernelAction, ...] = ()
    if not owns_link(present, marks):
        if not (fits and _carries(present, desired, observed)):
            kind = present.kind or "physical"
            message = (
                f"a {kind} link named {present.name} exists and is not ours; rename it, or choose another link name"
            )
            return LinkPlan(sweep=sweep, problem=Problem("LinkNameTaken", message))
        adopt = (AdoptLink(present.name),)
    elif not fits:
        return LinkPlan((DeleteLink(present.index, present.name), *hygiene, *fresh), sweep=sweep)
    sysctls: tuple[KernelAction, ...] = tuple(
        SetSysctl(present.name, key, value)
        for key, value in LINK_SYSCTLS
        if observed.sysctls.get((present.name, key), value) != value
    )
    up = () if present.up else (SetLinkUp(present.name),)
    return LinkPlan((*adopt, *hygiene, *sysctls, *up), link=present, sweep=sweep)


def _parent_hygiene(parent: Link, observed: Observed) -> tuple[KernelAction, ...]:
    """Keep the parent from answering ARP for the overlay address with its own MAC: traffic would pass the link by."""
    if observed.sysctls.get((parent.name, "arp_ignore")) == "0":
        return (SetSysctl(parent.name, "arp_ignore", "1"),)
    return ()


def _carries(link: Link, desired: Desired, observed: Observed) -> bool:
    """Whether a link without our mark has this node's very address: then the earlier operator made it."""
    wanted = desired.address.ip if desired.address else None
    return any(address.link == link.index and address.interface.ip == wanted for address in observed.addresses)
