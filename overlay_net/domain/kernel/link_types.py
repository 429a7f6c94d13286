"""What is possible on links without Ethernet, such as tunnels: they carry no macvlan, and have no ARP that we know."""

from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import DesiredLink, Link, Observed
from overlay_net.model.kernel_actions import Problem


def refuse_parent(parent: Link, target: DesiredLink) -> Problem | None:
    """Return why the parent cannot carry a link of this kind (macvlan_port_create, ipvlan_link_new), else None."""
    if parent.ethernet:
        return None
    message = f"{parent.name} is not an Ethernet link, so it cannot carry a link of kind {target.kind}"
    return Problem("ParentNotEthernet", f"{message}; set link_mode to address, or choose another interface")


def can_have_conflicts(name: str, observed: Observed) -> bool:
    """Return whether another host on the link may use our address: not on a tunnel, which has no neighbours.

    Raises KernelError for a link whose neighbours have no Ethernet addresses, as on InfiniBand.
    """
    link = next((link for link in observed.links if link.name == name), None)
    if link is None or link.ethernet:
        return True
    if link.arp:
        message = f"address conflicts cannot be detected on {name}, which is not an Ethernet link"
        raise KernelError(f"{message}; set duplicate_detection to false")
    return False
