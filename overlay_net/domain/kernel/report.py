"""The agent's part of status: what differs from the desired state, so that it stays small however many routes exist."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from overlay_net.domain.kernel.address import ADDRESS_TENTATIVE
from overlay_net.domain.kernel.ownership import owns_address_anywhere
from overlay_net.model.conditions import (
    ADDRESS_CLAIMED,
    ADDRESS_CONFLICT,
    CONFIGURED,
    GATEWAY_REACHABLE,
    READY,
    RELEASED,
    Condition,
    transition,
)
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired, DesiredLink, Observed, OwnershipMark
from overlay_net.model.kernel_actions import DeleteRoute, KernelPlan, Problem
from overlay_net.model.net import IpAddress, IpInterface
from overlay_net.model.node_report import Report, RouteFailure, SilentGateway
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteProbe

MAX_SILENT = 64
"""Limit of entries in status.gateways."""

MAX_FAILURES = 500
"""Limit of entries in status.routes; the counts include all."""

NAMED_GATEWAYS = 5
"""Limit of the gateways that one condition names."""


def configured_address(
    overlay: NodeOverlay | None, desired: Desired, observed: Observed, mark: OwnershipMark
) -> IpInterface | None:
    """The overlay address in the kernel; while a previous one is still there, that one.

    The controller releases every address that is not reported here. So an address from the object's status, or from an
    earlier report, counts on any link of the kernel, even on one of the earlier operator without our mark. An address
    that failed the kernel's duplicate address detection is not in use, so it does not count.
    """
    known_interfaces = (overlay.assignment.address, overlay.report.configured) if overlay else ()
    known = {interface.ip for interface in (desired.address, *known_interfaces) if interface is not None}
    present = [
        address.interface
        for address in observed.addresses
        if not address.dad_failed and (owns_address_anywhere(address, observed, mark) or address.interface.ip in known)
    ]
    previous = [interface for interface in present if desired.address is None or interface.ip != desired.address.ip]
    if previous:
        return previous[0]
    return desired.address if desired.address in present else next(iter(present), None)


@dataclass(frozen=True, slots=True)
class NeighbourState:
    """What the agent knows about the other hosts on its links."""

    conflict: IpAddress | None = None
    """The assigned address, if it is not configured because another host uses it."""
    conflict_mac: str = ""
    """Empty: unknown, because no neighbour could be asked."""
    claimed_by: str = ""
    """MAC of another host that claims the address in use here."""
    silent: tuple[SilentGateway, ...] = ()


def make_report(
    overlay: NodeOverlay,
    desired: Desired,
    link: DesiredLink,
    plan: KernelPlan,
    errors: Mapping[DesiredRoute | None, str],
    configured: IpInterface | None,
    now: datetime,
    neighbours: NeighbourState = NeighbourState(),
    fallback: IpAddress | None = None,
    route_probes: tuple[RouteProbe, ...] = (),
) -> Report:
    """The agent's part of status.

    ``link`` is the desired link; ``plan`` is what the last pass left to do; ``errors`` are those of the kernel by route
    (None: link or address); ``configured`` is the overlay address in the kernel; ``fallback`` is the gateway of routes
    without one.
    """
    failures = _find_failures(desired, plan, errors)
    problem = next((problem for problem in plan.problems if problem.route is None), None)
    tentative = problem is not None and problem.reason == ADDRESS_TENTATIVE
    conditions = (
        _configured(overlay, desired, link, configured, problem, errors.get(None), neighbours),
        _gateway_reachable(neighbours),
        _ready(desired, link, None if tentative else configured, failures, route_probes, plan),
    )
    return Report(
        interface=link.parent,
        link=link.name,
        configured=configured,
        fallback=fallback,
        observed_generation=overlay.generation,
        routes_desired=len(desired.routes),
        routes_ready=len(desired.routes) - len(failures),
        routes_failed=len(failures),
        failures=failures[:MAX_FAILURES],
        silent_gateways=neighbours.silent[:MAX_SILENT],
        conflict=neighbours.conflict if neighbours.conflict and not overlay.deleting else None,
        route_probes=route_probes,
        conditions=tuple(transition(overlay.report.conditions, condition, now) for condition in conditions),
    )


def _find_failures(
    desired: Desired, plan: KernelPlan, errors: Mapping[DesiredRoute | None, str]
) -> tuple[RouteFailure, ...]:
    if not plan.problems and len(plan.placed) == len(desired.routes) and not errors.keys() - {None}:
        # The usual case, without hashing thousands of routes.
        return ()
    problems = {problem.route: problem for problem in plan.problems if problem.route is not None}
    placed = {route for route, _ in plan.placed}
    failures = []
    for route in desired.routes:
        if route in problems:
            failures.append(_failure(route, problems[route].reason, problems[route].message))
        elif route not in placed:
            error = errors.get(route)
            reason = ("KernelRefused", error) if error is not None else ("Pending", "not in the kernel yet")
            failures.append(_failure(route, *reason))
    return tuple(failures)


def _failure(route: DesiredRoute, reason: str, message: str) -> RouteFailure:
    spec = route.spec
    gateway = str(spec.gateways[0].address) if spec.gateways else ""
    return RouteFailure(route.subnet, spec.metric, route.static_route, reason, message, gateway, spec.table)


def _configured(
    overlay: NodeOverlay,
    desired: Desired,
    link: DesiredLink,
    configured: IpInterface | None,
    problem: Problem | None,
    error: str | None,
    neighbours: NeighbourState,
) -> Condition:
    if overlay.deleting:
        return _released(configured, problem, error)
    if problem is not None:
        return Condition(CONFIGURED, False, problem.reason, problem.message)
    if neighbours.conflict is not None:
        host = neighbours.conflict_mac or "another host"
        message = f"{neighbours.conflict} is in use by {host} and was not configured"
        return Condition(CONFIGURED, False, ADDRESS_CONFLICT, message)
    if error is not None:
        return Condition(CONFIGURED, False, "KernelRefused", error)
    if link.kind == "none":
        return _routes_only(configured)
    return _address_configured(desired.address, configured, neighbours)


def _released(configured: IpInterface | None, problem: Problem | None, error: str | None) -> Condition:
    if configured is None and problem is None and error is None:
        return Condition(CONFIGURED, False, RELEASED, "link, address and routes are removed")
    rest = f"{configured} is still in the kernel" if configured else "link, address and routes are being removed"
    return Condition(CONFIGURED, False, "Releasing", error or (problem.message if problem else rest))


def _routes_only(configured: IpInterface | None) -> Condition:
    if configured is not None:
        message = f"{configured} is still in the kernel, although this node has routes only"
        return Condition(CONFIGURED, False, "Pending", message)
    return Condition(CONFIGURED, True, "RoutesOnly", "this node has routes and no overlay address")


def _address_configured(
    desired: IpInterface | None, configured: IpInterface | None, neighbours: NeighbourState
) -> Condition:
    if desired is None:
        return Condition(CONFIGURED, False, "NoAddress", "no overlay address is assigned yet")
    if configured is None:
        return Condition(CONFIGURED, False, "Pending", f"{desired} is not on the link yet")
    if configured != desired:
        return Condition(CONFIGURED, False, "Pending", f"{configured} is still in the kernel besides {desired}")
    if neighbours.claimed_by:
        message = f"{desired} is on the link and defended; {neighbours.claimed_by} claims it too"
        return Condition(CONFIGURED, True, ADDRESS_CLAIMED, message)
    return Condition(CONFIGURED, True, "Configured", f"{desired} is on the link")


def _gateway_reachable(neighbours: NeighbourState) -> Condition:
    if not neighbours.silent:
        return Condition(GATEWAY_REACHABLE, True, "Reachable")
    message = "; ".join(f"{each.address}: {each.message}" for each in neighbours.silent[:NAMED_GATEWAYS])
    return Condition(GATEWAY_REACHABLE, False, "GatewayDown", message)


def _ready(
    desired: Desired,
    link: DesiredLink,
    configured: IpInterface | None,
    failures: tuple[RouteFailure, ...],
    route_probes: tuple[RouteProbe, ...],
    plan: KernelPlan,
) -> Condition:
    routes_only = link.kind == "none"
    if configured != desired.address or (desired.address is None and not routes_only):
        return Condition(READY, False, "NotConfigured", "the overlay address is not in use")
    if failures:
        first = failures[0]
        message = f"{len(failures)} of {len(desired.routes)} routes are not in place; {first.subnet}: {first.message}"
        return Condition(READY, False, "RoutesFailing", message)
    obsolete = [action.route for action in plan.actions if isinstance(action, DeleteRoute)]
    if obsolete:
        message = f"{len(obsolete)} obsolete routes are still in the kernel, such as {obsolete[0].subnet}"
        return Condition(READY, False, "RoutesLeft", message)
    if route_probes:
        worst = min(route_probes, key=lambda route_probe: route_probe.state == "Probing")
        message = f"generation {worst.generation} of StaticRoute {worst.static_route}: {worst.message}"
        return Condition(READY, False, worst.state, message)
    routes = f"{len(desired.routes)} routes are in place"
    return Condition(READY, True, "Ready", routes if routes_only else f"address and {routes}")
