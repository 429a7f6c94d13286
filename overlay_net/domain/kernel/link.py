"""The overlay link: which one is it, and what is missing to it.

With the kind ``address`` it is the private interface itself: nothing of it is changed, only the address is put there.
"""

from dataclasses import dataclass

from overlay_net.domain.kernel.ownership import owns_link
from overlay_net.model.kernel import Desired, DesiredLink, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import (
    AddLink,
    AdoptLink,
    DeleteLink,
    KernelAction,
    Problem,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
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
    # A router of the private network must not give the overlay link addresses and a default route of its own
    # (ip-sysctl.rst, accept_ra); an address is probed before it is used (accept_dad, RFC 4862).
    ("ipv6.accept_ra", "0"),
    ("ipv6.accept_dad", "1"),
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


def plan_link(desired: Desired, observed: Observed, mark: OwnershipMark) -> LinkPlan:
    wanted = desired.link
    ours = [link for link in observed.links if owns_link(link, mark)]
    name = wanted.name if wanted and wanted.kind != "address" else None
    sweep = tuple(DeleteLink(link.index, link.name) for link in ours if link.name != name)
    if wanted is None:
        return LinkPlan(sweep=sweep)
    parent = next((link for link in observed.links if link.name == wanted.parent), None)
    if parent is None:
        message = wanted.missing or f"interface {wanted.parent} does not exist on this node"
        left = next((link for link in ours if link.name == wanted.name), None)
        return LinkPlan(link=left, sweep=sweep, problem=Problem("ParentMissing", message))
    if wanted.kind == "address":
        return _on_the_interface(parent, ours, sweep, observed)
    hygiene = _parent_hygiene(parent, observed)
    fresh: tuple[KernelAction, ...] = (
        AddLink(wanted.name, wanted.parent, wanted.kind, wanted.mode, wanted.mac),
        *(SetSysctl(wanted.name, key, value) for key, value in LINK_SYSCTLS),
        SetLinkUp(wanted.name),
    )
    present = next((link for link in observed.links if link.name == wanted.name), None)
    if present is None:
        return LinkPlan((*hygiene, *fresh), sweep=sweep)
    fits = present.kind == wanted.kind and present.parent == parent.index
    adopt: tuple[KernelAction, ...] = ()
    if not owns_link(present, mark):
        if not (fits and _carries(present, desired, observed)):
            kind = present.kind or "physical"
            message = (
                f"a {kind} link named {present.name} exists and is not ours; rename it, or choose another link name"
            )
            return LinkPlan(sweep=sweep, problem=Problem("LinkNameTaken", message))
        adopt = (AdoptLink(present.name),)
    elif not fits:
        return LinkPlan((DeleteLink(present.index, present.name), *hygiene, *fresh), sweep=sweep)
    mend = _mend(present, parent, wanted, observed)
    return LinkPlan((*adopt, *hygiene, *mend), link=present, sweep=sweep)


def _on_the_interface(parent: Link, ours: list[Link], sweep: tuple[KernelAction, ...], observed: Observed) -> LinkPlan:
    if not observed.keeps_address_protocol:
        message = "an address on the interface itself could not be told from other people's: that needs Linux 5.18"
        # A link of ours from another mode goes on carrying the address.
        return LinkPlan(link=next(iter(ours), None), problem=Problem("KernelTooOld", f"{message}; choose a link_mode"))
    return LinkPlan(link=parent, sweep=sweep)


def _mend(present: Link, parent: Link, wanted: DesiredLink, observed: Observed) -> tuple[KernelAction, ...]:
    """What differs on a link that exists. Its MAC stays, whatever it is: it is in the caches of its neighbours."""
    actions: list[KernelAction] = []
    if present.mtu and parent.mtu and present.mtu != parent.mtu:
        # The kernel lowers a macvlan's MTU together with its parent's, and never raises it again.
        actions.append(SetMtu(present.name, parent.mtu))
    if wanted.kind == "macvlan" and present.mode and present.mode != wanted.mode:
        actions.append(SetMacvlanMode(present.name, wanted.mode))
    actions += (
        SetSysctl(present.name, key, value)
        for key, value in LINK_SYSCTLS
        if observed.sysctls.get((present.name, key), value) != value
    )
    if not present.up:
        actions.append(SetLinkUp(present.name))
    return tuple(actions)


def _parent_hygiene(parent: Link, observed: Observed) -> tuple[KernelAction, ...]:
    """Keep the parent from answering ARP for the overlay address with its own MAC: traffic would pass the link by."""
    if observed.sysctls.get((parent.name, "arp_ignore")) == "0":
        return (SetSysctl(parent.name, "arp_ignore", "1"),)
    return ()


def _carries(link: Link, desired: Desired, observed: Observed) -> bool:
    """Whether a link without our mark has this node's very address: then the earlier operator made it."""
    wanted = desired.address.ip if desired.address else None
    return any(address.link == link.index and address.interface.ip == wanted for address in observed.addresses)
