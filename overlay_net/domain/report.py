"""What an agent says about its kernel: by exception, so that a report stays small however many routes there are."""

from collections.abc import Mapping
from datetime import datetime

from overlay_net.model.conditions import CONFIGURED, READY, RELEASED, Condition, transition
from overlay_net.model.kernel import Desired, DesiredLink, DesiredRoute, IpInterface, KernelPlan, Problem
from overlay_net.model.overlay import NodeOverlay, Report, RouteFailure

MAX_FAILURES = 500
"""Entries of status.routes at the most; the counts cover all."""


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
        gateway = str(route.gateways[0]) if route.gateways else ""
        failures.append(RouteFailure(route.subnet, route.metric, route.owner, reason, message, gateway))
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
        return Condition(CONFIGURED, False, "Releasing", error or "link, address and routes are being taken down")
    if blocked is not None:
        return Condition(CONFIGURED, False, blocked.reason, blocked.message)
    if error is not None:
        return Condition(CONFIGURED, False, "KernelRefused", error)
    if desired.address is None:
        return Condition(CONFIGURED, False, "NoAddress", "no overlay address is assigned yet")
    if configured != desired.address:
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
