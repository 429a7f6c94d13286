"""Plans the position of the overlay address among the addresses of its link, which decides about the kernel's choices.

Foreign addresses are never changed. With link_mode ``address`` the node's own address of the same subnet must be the
primary one; apart from that, the overlay address must be the one that the kernel prefers.
"""

from typing import TypeAlias

from overlay_net.domain.kernel.connected_route import NODE_SUBNET
from overlay_net.domain.kernel.ownership import owns_link
from overlay_net.domain.kernel.present_address import find_preferred, find_primary
from overlay_net.model.kernel import Address, Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress, DeleteAddress, Problem

ADDRESS_NOT_PREFERRED = "AddressNotPreferred"
"""Problem reason if the kernel chooses another address of the link as the source of masqueraded traffic."""

Order: TypeAlias = tuple[tuple[AddAddress | DeleteAddress, ...], tuple[Problem, ...]]


def plan_order(present: Address, add: AddAddress, desired: Desired, observed: Observed, mark: OwnershipMark) -> Order:
    """Compare the position of our address among those of its subnet on the link, which decides about sources."""
    node_address = _find_node_address_behind(present, desired, observed)
    if node_address is not None:
        return _yield_to(node_address, add, observed)
    preferred = find_preferred(present, observed, mark)
    if preferred is None or _may_be_preferred(preferred, present, desired, observed, mark):
        return (), ()
    fix = "delete it and add it again" if preferred.interface.version == 4 else "set its preferred lifetime to 0"
    message = (
        f"masqueraded traffic leaves {add.link} as {preferred.interface.ip}, not as {present.interface.ip}, because "
        f"the kernel prefers {preferred.interface}; remove it, or {fix}"
    )
    return (), (Problem(ADDRESS_NOT_PREFERRED, message),)


def _find_node_address_behind(present: Address, desired: Desired, observed: Observed) -> Address | None:
    """Find the node's own address, with link_mode ``address``, if it is a secondary address of ours."""
    return next(
        (
            each
            for each in observed.address_index.on(present.link)
            if each.interface.ip == desired.node_ip and each != present and find_primary(each, observed) == present
        ),
        None,
    )


def _yield_to(node_address: Address, add: AddAddress, observed: Observed) -> Order:
    """Let the node's own address be the primary one again: the node's traffic leaves with the primary address."""
    if observed.sysctls.get((add.link, "promote_secondaries")) == "1":
        return (DeleteAddress(add.link, add.interface), add), ()
    message = (
        f"traffic of the node leaves {add.link} as {add.interface.ip}, because {node_address.interface} was added "
        f"later; set net.ipv4.conf.{add.link}.promote_secondaries=1"
    )
    return (), (Problem(NODE_SUBNET, message),)


def _may_be_preferred(
    preferred: Address, present: Address, desired: Desired, observed: Observed, mark: OwnershipMark
) -> bool:
    """Return whether an address is on the private interface (link_mode ``address``) and of the node's own subnet."""
    if any(link.index == present.link and owns_link(link, mark) for link in observed.links):
        return False
    node_ip = desired.node_ip
    return node_ip is None or node_ip.version != preferred.interface.version or node_ip in preferred.interface.network
