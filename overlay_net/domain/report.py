"""What an agent says about its kernel: by exception, so that a report stays small however many routes there are."""

from collections.abc import Mapping
from datetime import datetime

from overlay_net.domain.ownership import owns_address
from overlay_net.model.conditions import CONFIGURED, READY, RELEASED, Condition, transition
from overlay_net.model.kernel import (
    Desired,
    DesiredLink,
    DesiredRoute,
    IpInterface,
    KernelPlan,
    Marks,
    Observed,
    Problem,
)
from overlay_net.model.overlay import NodeOverlay, Report, RouteFailure

MAX_FAILURES = 500
"""Entries of status.routes at the most; the counts cover all."""


def configured_address(
    overlay: NodeOverlay | None, desired: Desired, observed: Observed, marks: Marks
) -> IpInterface | None:
    """The overlay address that the kernel has; while it has an earlier one besides, that one.

    The controller gives back what is not reported here. So an address that the object shows, or that was reported
    before, counts wherever it is in the kernel, also on a link of the earlier operator that does not carry our mark.
    """
    shown = (overlay.assignment.address, overlay.report.configured) if overlay else ()
    known = {interface.ip for interface in (desired.address, *shown) if interface is not None}
    present = [
        address.interface
        for address in observed.addresses
        if owns_address(address, observed, marks) or address.interface.ip in known
    ]
    earlier = [interface for interface in present if desired.address is None or interface.ip != desired.address.ip]
    if earlier:
        return earlier[0]
    return desired.address if desired.address in present else next(iter(present), None)


def report_of(
    overlay: NodeOverlay,
    desired: Desired,
    link: DesiredLink,
    plan: KernelPlan,
    errors: Mapping[DesiredRoute | None, str],
    configured: IpInterface | None,
    now: datetime,
) -> Report:
    """The agent's part of status.

    ``plan`` is what the last look at the kernel left to do; ``errors`` is what the kernel refused, by route (None: link
    or address); ``configured`` is our address that the kernel has.
    """
    failures = _failures(desired, plan, errors)
    blocked = next((problem for problem in plan.problems if problem.route is None), None)
    conditions = (
        _configured(overlay, desired, configured, blocked, errors.get(None)),
        _ready(desired, configured, failures),
    )
    return Report(
        interface=link.parent,
        link=link.name,
        configured=configured,
        observed_generation=overlay.generation,
        routes_desired=len(desired.routes),
        routes_ready=len(desired.routes) - len(failures),
        routes_failed=len(failures),
        failures=failures[:MAX_FAILURES],
        conditions=tuple(transition(overlay.report.conditions, condition, now) for condition in conditions),
    )


def _failures(
    desired: Desired, plan: KernelPlan, errors: Mapping[DesiredRoute | None, str]
) -> tuple[RouteFailure, ...]:
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
        gateway = str(route.gateways[0].address) if route.gateways else ""
        failures.append(RouteFailure(route.subnet, route.metric, route.owner, reason, message, gateway, route.table))
    return tuple(failures)


def _configured(
    overlay: NodeOverlay,
    desired: Desired,
    configured: IpInterface | None,
    blocked: Problem | None,
    error: str | None,
) -> Condition:
    if overlay.deleting:
        if configured is None and blocked is None and error is None:
            return Condition(CONFIGURED, False, RELEASED, "link, address and routes are gone")
        left = f"{configured} is still in the kernel" if configured else "link, address and routes are being taken down"
        return Condition(CONFIGURED, False, "Releasing", error or left)
    if blocked is not None:
        return Condition(CONFIGURED, False, blocked.reason, blocked.message)
    if error is not None:
        return Condition(CONFIGURED, False, "KernelRefused", error)
    if desired.address is None:
        return Condition(CONFIGURED, False, "NoAddress", "no overlay address is assigned yet")
    if configured is not None and configured != desired.address:
        return Condition(CONFIGURED, False, "Pending", f"{configured} is still in the kernel besides {desired.address}")
    if configured is None:
        return Condition(CONFIGURED, False, "Pending", f"{desired.address} is not on the link yet")
    return Condition(CONFIGURED, True, "Configured", f"{desired.address} is on the link")


def _ready(desired: Desired, configured: IpInterface | None, failures: tuple[RouteFailure, ...]) -> Condition:
    if desired.address is None or configured != desired.address:
        return Condition(READY, False, "NotConfigured", "the overlay address is not in use")
    if failures:
        first = failures[0]
        message = f"{len(failures)} of {len(desired.routes)} routes are not in place; {first.subnet}: {first.message}"
        return Condition(READY, False, "RoutesFailing", message)
    return Condition(READY, True, "Ready", f"address and {len(desired.routes)} routes are in place")
