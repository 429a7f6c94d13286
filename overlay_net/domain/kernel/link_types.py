"""What links of other types can be used for: which of them carry no macvlan or ipvlan, and which have no ARP."""

from typing import Final

from overlay_net.domain.kernel.stacked_link import lies_on
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import DesiredLink, Link, Observed
from overlay_net.model.kernel_actions import Problem

RECEIVING: Final = frozenset({"bridge", "bond", "team", "openvswitch"})
"""Kinds of links that receive all frames of their ports (netdev_rx_handler_register)."""


def refuse_parent(parent: Link, target: DesiredLink, observed: Observed) -> Problem | None:
    """Return why the parent cannot carry a link of this kind (macvlan_port_create, ipvlan_link_new), else None."""
    if not parent.ethernet:
        message = f"{parent.name} is not an Ethernet link, so it cannot carry a link of kind {target.kind}"
        return Problem("ParentNotEthernet", f"{message}; set link_mode to address, or choose another interface")
    master = observed.find_link_at(parent.master)
    if master is not None and master.kind in RECEIVING:
        message = f"{parent.name} is a port of {master.name}, which receives all its frames"
        return Problem("ParentInUse", f"{message}; set interface to {master.name}, or choose another interface")
    exclusive = next((each for each in observed.links if each.mode == "passthru" and lies_on(each, parent)), None)
    if exclusive is not None:
        message = (
            f"{exclusive.name} is a {exclusive.kind} in passthru mode, which shares {parent.name} with no other link"
        )
        return Problem("ParentInUse", f"{message}; set its mode to bridge, or choose another interface")
    return None


def can_have_conflicts(name: str, observed: Observed) -> bool:
    """Return whether another host on the link may use our address: not on a tunnel, which has no neighbours.

    Raises KernelError for a link whose neighbours have no Ethernet addresses, as on InfiniBand.
    """
    link = observed.find_link(name)
    if link is None or link.ethernet:
        return True
    if link.arp:
        message = f"address conflicts cannot be detected on {name}, which is not an Ethernet link"
        raise KernelError(f"{message}; set duplicate_detection to false")
    return False
