"""Plans the changes of this node's kernel from observed to desired state, in an order without a gap in traffic.

Link, sysctls, address, connected route, routes and policy rules are added in this order; obsolete objects are removed
in reverse order. Actions that depend on a link that does not exist yet are left to the next pass: a plan never relies
on its own result. It depends on the observed kernel, never on earlier plans.
"""

from dataclasses import replace

from overlay_net.domain.kernel.address import plan_addresses
from overlay_net.domain.kernel.connected_route import ConnectedPlan, ConnectedPlanner
from overlay_net.domain.kernel.link import LinkPlan, plan_link
from overlay_net.domain.kernel.private_routing import private_parts
from overlay_net.domain.kernel.routes import RoutePlanner
from overlay_net.domain.kernel.source_routing import overlay_part
from overlay_net.domain.kernel.source_tables import plan_source_tables
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddRoute, DeleteAddress, DeleteLink, KernelPlan, ReplaceRoute
from overlay_net.model.net import IpAddress


def plan_kernel(desired: Desired, observed: Observed, mark: OwnershipMark) -> KernelPlan:
    """Return the ordered actions, the problems, and the routes that are already in place."""
    return KernelPlanner(mark).plan(desired, observed)


class KernelPlanner:
    """Plans one node's kernel repeatedly; unchanged routes are not planned again (RoutePlanner)."""

    def __init__(self, mark: OwnershipMark) -> None:
        self._mark = mark
        self._connected = ConnectedPlanner(mark)
        self._routes = RoutePlanner(mark)

    def plan(self, desired: Desired, observed: Observed) -> KernelPlan:
        link = plan_link(desired, observed, self._mark)
        addresses = plan_addresses(desired, observed, self._mark, link)
        remaining = _without_deleted_links(observed, link)
        again = any(isinstance(action, DeleteAddress) for action in addresses.add)
        connected = ConnectedPlan() if again else self._connected.plan(desired, remaining, link.link)
        routes = self._routes.plan(desired, remaining, link.link)
        parts = (
            *overlay_part(desired, remaining, self._mark, link.link),
            *private_parts(desired, remaining, self._mark, link.link),
        )
        source = plan_source_tables(parts, remaining, self._mark)
        pending = _pending_source(desired, observed)
        return KernelPlan(
            # The new address is added before the routes that use it as source, and the old one is deleted after them:
            # deleting an address deletes the routes that still use it. No rule refers to an empty table.
            actions=(
                *link.actions,
                *addresses.add,
                *connected.changes,
                *_without_source((*routes.changes, *source.changes), pending),
                *(source.add if pending is None else ()),
                *source.drop,
                *(() if desired.keeps_routes else source.deletions),
                *routes.deletions,
                *addresses.drop,
                *link.sweep,
            ),
            problems=(
                *((link.problem,) if link.problem else ()),
                *addresses.problems,
                *connected.problems,
                *source.problems,
                *routes.problems,
            ),
            placed=routes.placed,
            not_needed=routes.not_needed,
            link_faults=routes.link_faults,
        )


def _pending_source(desired: Desired, observed: Observed) -> IpAddress | None:
    """Return the IPv6 address if the kernel does not accept it as a source yet (ip6_route_info_create)."""
    address = desired.address
    if address is None or address.version == 4:
        return None
    in_use = any(each.in_use for each in observed.address_index.at(address.ip))
    return None if in_use else address.ip


def _without_source(
    changes: tuple[AddRoute | ReplaceRoute, ...], source: IpAddress | None
) -> tuple[AddRoute | ReplaceRoute, ...]:
    if source is None:
        return changes
    return tuple(change for change in changes if change.route.source != source)


def _without_deleted_links(observed: Observed, link: LinkPlan) -> Observed:
    """Exclude links that this plan deletes, which routes must not use."""
    deleted = {action.index for action in (*link.actions, *link.sweep) if isinstance(action, DeleteLink)}
    if not deleted:
        return observed
    return replace(
        observed,
        links=tuple(each for each in observed.links if each.index not in deleted),
        addresses=tuple(each for each in observed.addresses if each.link not in deleted),
    )
