"""(desired, observed) -> what to change in this node's kernel, in an order in which traffic never has a gap.

Link, sysctls, address, routes; then what is no longer wanted, in reverse. What leans on a link that does not exist yet
waits for the next look: a plan never uses its own result. Comparing is always with the kernel, never with memory.
"""

from overlay_net.domain.link_plan import LinkPlan, plan_link
from overlay_net.domain.ownership import owns_address
from overlay_net.domain.route_plan import plan_routes
from overlay_net.model.kernel import (
    AddAddress,
    DeleteAddress,
    Desired,
    KernelAction,
    KernelPlan,
    Marks,
    Observed,
)


def plan_kernel(desired: Desired, observed: Observed, marks: Marks) -> KernelPlan:
    """The actions in their order, what cannot be had now, and the routes that are in place already."""
    link = plan_link(desired, observed, marks)
    add, drop = _plan_addresses(desired, observed, marks, link)
    routes = plan_routes(desired, observed, marks, link.link)
    return KernelPlan(
        # The new address comes before the routes that name it as their source, the old one goes after them:
        # deleting an address takes the routes with it that still name it.
        actions=(*link.actions, *add, *routes.changes, *routes.deletions, *drop, *link.sweep),
        problems=(*((link.problem,) if link.problem else ()), *routes.problems),
        placed=routes.placed,
    )


def _plan_addresses(
    desired: Desired, observed: Observed, marks: Marks, link: LinkPlan
) -> tuple[tuple[KernelAction, ...], tuple[KernelAction, ...]]:
    """Addresses to add, and addresses to drop."""
    if desired.link is None or desired.address is None or link.problem is not None:
        # Links of ours that are swept take their addresses along.
        return (), ()
    name = desired.link.name
    if link.link is None:
        return (AddAddress(name, desired.address),), ()
    on_link = [address for address in observed.addresses if address.link == link.link.index]
    ours = {
        address.interface
        for address in on_link
        # The same address with another prefix length was set there by the earlier operator.
        if owns_address(address, observed, marks) or address.interface.ip == desired.address.ip
    }
    marked = {address.interface for address in on_link if owns_address(address, observed, marks)}
    add = () if desired.address in marked else (AddAddress(name, desired.address),)
    drop = tuple(DeleteAddress(name, interface) for interface in sorted(ours - {desired.address}, key=str))
    return add, drop
