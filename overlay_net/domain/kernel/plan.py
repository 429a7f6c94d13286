"""(desired, observed) -> what to change in this node's kernel, in an order in which traffic never has a gap.

Link, sysctls, address, routes, rules; then what is no longer wanted, in reverse. What leans on a link that does not
exist yet waits for the next look: a plan never uses its own result. Comparing is always with the kernel, never with
memory.
"""

from dataclasses import replace

from overlay_net.domain.kernel.address import plan_addresses
from overlay_net.domain.kernel.link import LinkPlan, plan_link
from overlay_net.domain.kernel.routes import plan_routes
from overlay_net.domain.kernel.source_routing import plan_source
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import DeleteLink, KernelPlan
from overlay_net.model.net import IpAddress


def plan_kernel(desired: Desired, observed: Observed, mark: OwnershipMark) -> KernelPlan:
    """The actions in their order, what cannot be had now, and the routes that are in place already."""
    link = plan_link(desired, observed, mark)
    addresses = plan_addresses(desired, observed, mark, link)
    staying = _staying(observed, link)
    routes = plan_routes(desired, staying, mark, link.link)
    source = plan_source(desired, staying, mark, link.link)
    awaited = _awaited(desired, observed)
    changes = (*routes.changes, *source.changes)
    if awaited is not None:
        changes = tuple(each for each in changes if each.route.source != awaited)
    return KernelPlan(
        # The new address comes before the routes that name it as their source, the old one goes after them:
        # deleting an address takes the routes with it that still name it. No rule leads to a table that is not there.
        actions=(
            *link.actions,
            *addresses.add,
            *changes,
            *(source.add if awaited is None else ()),
            *source.drop,
            *source.deletions,
            *routes.deletions,
            *addresses.drop,
            *link.sweep,
        ),
        problems=(
            *((link.problem,) if link.problem else ()),
            *addresses.problems,
            *((source.problem,) if source.problem else ()),
            *routes.problems,
        ),
        placed=routes.placed,
    )


def _awaited(desired: Desired, observed: Observed) -> IpAddress | None:
    """The IPv6 address that the kernel does not take as the source of a route yet (ip6_route_info_create)."""
    wanted = desired.address
    if wanted is None or wanted.version == 4:
        return None
    in_use = any(each.interface.ip == wanted.ip and each.in_use for each in observed.addresses)
    return None if in_use else wanted.ip


def _staying(observed: Observed, link: LinkPlan) -> Observed:
    """Without the links that this plan deletes: no route may be led over them any more."""
    doomed = {action.index for action in (*link.actions, *link.sweep) if isinstance(action, DeleteLink)}
    if not doomed:
        return observed
    return replace(
        observed,
        links=tuple(each for each in observed.links if each.index not in doomed),
        addresses=tuple(each for each in observed.addresses if each.link not in doomed),
    )
