"""What an agent says about its kernel: by exception, so that a report stays small however many routes there are."""

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
"""Entries of status.gateways at the most."""

MAX_FAILURES = 500
"""Entries of status.routes at the most; the counts cover all."""


def configured_address(
    overlay: NodeOverlay | None, desired: Desired, observed: Observed, mark: OwnershipMark
) -> IpInterface | None:
    """The overlay address that the kernel has; while it has an earlier one besides, that one.

    The controller gives back what is not reported here. So an address that the object shows, or that was reported
    before, counts wherever it is in the kernel, also on a link of the earlier operator that does not carry our mark.
    One that failed the kernel's own duplicate detection is not in use here, so it does not count.
    """
    shown = (overlay.assignment.address, overlay.report.configured) if overlay else ()
    known = {interface.ip for interface in (desired.address, *shown) if interface is not None}
    present = [
        address.interface
        for address in observed.addresses
        if not address.dad_failed and (owns_address_anywhere(address, observed, mark) or address.interface.ip in known)
    ]
    earlier = [interface for interface in present if desired.address is None or interface.ip != desired.address.ip]
    if earlier:
        return earlier[0]
    return desired.address if desired.address in present else next(iter(present), None)


@dataclass(frozen=True, slots=True)
class NeighbourState:
    """What the agent knows of the other hosts on its links."""

    conflict: IpAddress | None = None
    """The assigned address, which is not used here because somebody else uses it."""
    conflict_mac: str = ""
    """Empty where nobody could be asked."""
    claimed_by: str = ""
    """MAC of another host that claims the address which is in use here."""
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

    ``link`` is where the settings want the address; ``plan`` is what the last look at the kernel left to do;
    ``errors`` is what the kernel refused, by route (None: link or address); ``configured`` is our address that the
    kernel has; ``fallback`` is the gateway of routes without one.
    """
    failures = _failures(desired, plan, errors)
    blocked = next((problem for problem in plan.problems if problem.route is None), None)
    conditions = (
        _configured(overlay, desired, link, configured, blocked, errors.get(None), neighbours),
        _gateways_reachable(neighbours),
        _ready(desired, link, None if _is_tentative(blocked) else configured, failures, route_probes, plan),
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


def _is_tentative(blocked: Problem | None) -> bool:
    return blocked is not None and blocked.reason == ADDRESS_TENTATIVE


def _failures(
    desired: Desired, plan: KernelPlan, errors: Mapping[DesiredRoute | None, str]
) -> tuple[RouteFailure, ...]:
    if not plan.problems and len(plan.placed) == len(desired.routes) and not errors.keys() - {None}:
        # As it is nearly always, and thousands of routes are slow to hash.
        return ()
    problems = {problem.route: problem for problem in plan.problems if problem.route is not None}
    placed = {route for route, _ in plan.placed}
    failures = []
    for route in desired.routes:
        if route in problems:
            reason, message = problems[route].reason, problems[route].message
        elif route in placed:
            continue
        elif route in errors:
            reason, message = "KernelRefused", errors[route]
        else:
            reason, message = "Pending", "not in the kernel yet"
        spec = route.spec
        gateway = str(spec.gateways[0].address) if spec.gateways else ""
        failures.append(
            RouteFailure(route.subnet, spec.metric, route.static_route, reason, message, gateway, spec.table)
        )
    return tuple(failures)


def _configured(
    overlay: NodeOverlay,
    desired: Desired,
    link: DesiredLink,
    configured: IpInterface | None,
    blocked: Problem | None,
    error: str | None,
    neighbours: NeighbourState,
) -> Condition:
    if overlay.deleting:
        if configured is None and blocked is None and error is None:
            return Condition(CONFIGURED, False, RELEASED, "link, address and routes are gone")
        left = f"{configured} is still in the kernel" if configured else "link, address and routes are being taken down"
        return Condition(CONFIGURED, False, "Releasing", error or (blocked.message if blocked else left))
    if blocked is not None:
        return Condition(CONFIGURED, False, blocked.reason, blocked.message)
    if neighbours.conflict is not None:
        message = f"{neighbours.conflict} is in use by {neighbours.conflict_mac or 'another host'} and was not set"
        return Condition(CONFIGURED, False, ADDRESS_CONFLICT, message)
    if error is not None:
        return Condition(CONFIGURED, False, "KernelRefused", error)
    if link.kind == "none":
        if configured is not None:
            return Condition(
                CONFIGURED, False, "Pending", f"{configured} is still in the kernel, though this node has routes only"
            )
        return Condition(CONFIGURED, True, "RoutesOnly", "this node has routes and no overlay address")
    if desired.address is None:
        return Condition(CONFIGURED, False, "NoAddress", "no overlay address is assigned yet")
    if configured is not None and configured != desired.address:
        return Condition(CONFIGURED, False, "Pending", f"{configured} is still in the kernel besides {desired.address}")
    if configured is None:
        return Condition(CONFIGURED, False, "Pending", f"{desired.address} is not on the link yet")
    if neighbours.claimed_by:
        message = f"{desired.address} is on the link and defended; {neighbours.claimed_by} claims it too"
        return Condition(CONFIGURED, True, ADDRESS_CLAIMED, message)
    return Condition(CONFIGURED, True, "Configured", f"{desired.address} is on the link")


def _gateways_reachable(neighbours: NeighbourState) -> Condition:
    if not neighbours.silent:
        return Condition(GATEWAY_REACHABLE, True, "Reachable")
    told = "; ".join(f"{each.address}: {each.message}" for each in neighbours.silent[:5])
    return Condition(GATEWAY_REACHABLE, False, "GatewayDown", told)


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
    left = [action.route for action in plan.actions if isinstance(action, DeleteRoute)]
    if left:
        message = f"{len(left)} routes that this node must not have any more are still in its kernel; {left[0].subnet}"
        return Condition(READY, False, "RoutesLeft", message)
    if route_probes:
        first_trial = min(route_probes, key=lambda route_probe: route_probe.state == "Probing")
        named = f"generation {first_trial.generation} of StaticRoute {first_trial.static_route}"
        return Condition(READY, False, first_trial.state, f"{named}: {first_trial.message}")
    what = f"{len(desired.routes)} routes are in place"
    return Condition(READY, True, "Ready", what if routes_only else f"address and {what}")
