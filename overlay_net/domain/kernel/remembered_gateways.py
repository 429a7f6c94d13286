"""Finds out, for an agent that was restarted, which gateways were down before.

Without probe results every gateway counts as up, so routes would return to a gateway that is still down. What the last
agent knew is in the kernel, in the next hops that it left out, and in its last report. After a boot of the node, the
kernel has no routes, and the report is about another boot.
"""

from collections.abc import Collection, Iterable, Iterator

from overlay_net.domain.kernel.ownership import owns_route
from overlay_net.model.desired_route import DesiredRoute, RouteSpec
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import GATEWAY_DOWN, SilentGateway
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import Route


def reported_down(overlay: NodeOverlay, boot_id: str) -> tuple[SilentGateway, ...]:
    """Return the gateways that do not answer according to a report of this boot; the state of links is observed."""
    report = overlay.report
    is_of_this_boot = bool(boot_id) and report.observed_node.boot_id == boot_id
    if not (is_of_this_boot and overlay.has_own_report):
        return ()
    return tuple(each for each in report.silent_gateways if each.reason == GATEWAY_DOWN)


def remembered_down(
    routes: Iterable[DesiredRoute], observed: Observed, mark: OwnershipMark, reported: Iterable[SilentGateway]
) -> frozenset[IpAddress]:
    """Return the gateways of desired routes that were down when the last agent changed the kernel."""
    pairs = tuple(_find_pairs(routes, observed, mark))
    left_out = {gateway for spec, route in pairs for gateway in _left_out(spec, route)}
    silent = {each.address for each in reported}
    in_use = {hop.gateway for spec, route in pairs if not _may_all_be_down(spec, silent) for hop in route.next_hops}
    return frozenset(left_out | (silent - in_use))


def _find_pairs(
    routes: Iterable[DesiredRoute], observed: Observed, mark: OwnershipMark
) -> Iterator[tuple[RouteSpec, Route]]:
    """Yield each specification whose next hops depend on which gateways are up, with a route that the kernel has."""
    by_key = {route.key: route for route in routes if _depends_on_health(route.spec)}
    if not by_key:
        return
    for route in observed.routes:
        desired = by_key.get(route.key)
        if desired is not None and owns_route(route, mark):
            yield desired.spec, route


def _depends_on_health(spec: RouteSpec) -> bool:
    is_checked = spec.kind == "unicast" and spec.check.kind != "none"
    return is_checked and (len(spec.gateways) > 1 or spec.on_all_down != "keep")


def _may_all_be_down(spec: RouteSpec, silent: Collection[IpAddress]) -> bool:
    """Return whether the route may use gateways although they are down."""
    return spec.on_all_down == "keep" and all(gateway.address in silent for gateway in spec.gateways)


def _left_out(spec: RouteSpec, route: Route) -> set[IpAddress]:
    """Return the gateways that the route would use if they were up."""
    if route.kind == "unreachable":
        return {gateway.address for gateway in spec.gateways} if spec.on_all_down == "unreachable" else set()
    used = {hop.gateway for hop in route.next_hops}
    priorities = [gateway.priority for gateway in spec.gateways if gateway.address in used]
    if not priorities:
        # The route is of another specification.
        return set()
    return {
        gateway.address
        for gateway in spec.gateways
        if gateway.priority <= min(priorities) and gateway.address not in used
    }
