"""The agent's part of status; it lists only differences from the desired state, so it is small for many routes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from overlay_net.domain.kernel.address import ADDRESS_TENTATIVE, LOCAL_ROUTE_MISSING
from overlay_net.domain.kernel.address_order import ADDRESS_NOT_PREFERRED
from overlay_net.domain.kernel.agent_conditions import (
    NO_NEIGHBOURS,
    NeighbourState,
    checkpoint_condition,
    configured_condition,
    gateway_condition,
    metrics_condition,
    ready_condition,
    route_sets_condition,
)
from overlay_net.domain.kernel.checkpoint import HEALTHY, CheckpointHealth
from overlay_net.domain.kernel.connected_route import (
    CONNECTED_ROUTE_MISSING,
    CONNECTED_ROUTE_SHADOWED,
    NODE_SUBNET,
)
from overlay_net.domain.kernel.ownership import find_own_candidates, owns_address_anywhere
from overlay_net.model.conditions import GATEWAY_REACHABLE, READY, SHADOWED, Condition, find_condition, transition
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired, DesiredLink, Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelPlan
from overlay_net.model.net import IpAddress, IpInterface
from overlay_net.model.node_report import GATEWAY_IS_THIS_NODE, Report, RouteFailure
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteProbe

ADDRESS_UNUSABLE = frozenset(
    {
        ADDRESS_TENTATIVE,
        ADDRESS_NOT_PREFERRED,
        CONNECTED_ROUTE_MISSING,
        CONNECTED_ROUTE_SHADOWED,
        LOCAL_ROUTE_MISSING,
        NODE_SUBNET,
    }
)
"""Reasons of problems with an address that is in the kernel but not used as it must be."""

MAX_SILENT = 64
"""Maximum number of entries in status.gateways."""

MAX_FAILURES = 500
"""Maximum number of entries in status.routes; the counts include all failures."""


def configured_address(
    overlay: NodeOverlay | None, desired: Desired, observed: Observed, mark: OwnershipMark
) -> IpInterface | None:
    """Return the overlay address in the kernel; while a previous one is still configured, return that one.

    The controller releases every address that is not reported here. Therefore an address from the object's status or
    from an earlier report counts on any link, even on one of the earlier operator without our mark. An address that
    failed the kernel's duplicate address detection is not in use, so it does not count.
    """
    known_interfaces = (overlay.assignment.address, overlay.report.configured) if overlay else ()
    known = dict.fromkeys(each.ip for each in (desired.address, *known_interfaces) if each is not None)
    ours = (each for each in find_own_candidates(observed, mark) if owns_address_anywhere(each, observed, mark))
    at_known = (each for ip in known for each in observed.address_index.at(ip))
    found = dict.fromkeys((*ours, *at_known))
    present = [address.interface for address in found if not address.dad_failed]
    previous = [interface for interface in present if desired.address is None or interface.ip != desired.address.ip]
    if previous:
        return previous[0]
    return desired.address if desired.address in present else next(iter(present), None)


def make_report(
    overlay: NodeOverlay,
    desired: Desired,
    link: DesiredLink,
    plan: KernelPlan,
    errors: Mapping[DesiredRoute | None, str],
    configured: IpInterface | None,
    now: datetime,
    neighbours: NeighbourState = NO_NEIGHBOURS,
    fallback: IpAddress | None = None,
    route_probes: tuple[RouteProbe, ...] = (),
    metrics_problem: str = "",
    boot_id: str = "",
    lease: str = "",
    checkpoint: CheckpointHealth = HEALTHY,
    warnings: tuple[Condition, ...] = (),
) -> Report:
    """Return the agent's part of status.

    ``link`` is the desired link; ``plan`` is what the last pass left to do; ``errors`` are those of the kernel by route
    (None: link or address); ``configured`` is the overlay address in the kernel; ``fallback`` is the gateway for routes
    without one; ``metrics_problem`` is why the agent serves no metrics; ``boot_id`` is that of the machine;
    ``lease`` is the Lease that the agent renews; ``checkpoint`` is that of the node; ``warnings`` are conditions that
    do not affect Ready.
    """
    failures = _find_failures(desired, plan, errors)
    held = _held_address(overlay, desired, checkpoint)
    configured = held or configured
    if _was_proven(overlay, configured, boot_id):
        neighbours = replace(neighbours, unproven=frozenset())
    before = overlay.report.conditions if overlay.has_own_report else ()
    in_conflict = neighbours.conflict is not None and not overlay.deleting
    problem = next((problem for problem in plan.problems if problem.route is None), None)
    unusable = next((problem for problem in plan.problems if problem.reason in ADDRESS_UNUSABLE), None)
    needed = len(desired.routes) - len(plan.not_needed)
    unknown_sets = None if overlay.deleting else overlay.unknown_sets
    conditions = (
        configured_condition(
            overlay, desired, link, configured, problem, errors.get(None), neighbours, checkpoint, held
        ),
        gateway_condition(neighbours, find_condition(before, GATEWAY_REACHABLE)),
        ready_condition(desired, link, configured, unusable, failures, route_probes, plan, neighbours, unknown_sets),
        *route_sets_condition(unknown_sets),
        *checkpoint_condition(checkpoint),
        *metrics_condition(metrics_problem),
        *warnings,
    )
    return Report(
        interface=link.parent,
        link=link.name,
        configured=configured,
        fallback=fallback,
        observed_generation=overlay.generation,
        observed_uid=overlay.uid,
        observed_node=replace(overlay.node, boot_id=boot_id),
        lease=lease,
        routes_desired=needed,
        routes_ready=needed - len(failures),
        routes_failed=len(failures),
        failures=failures[:MAX_FAILURES],
        not_needed=_find_not_needed(plan)[: max(0, MAX_FAILURES - len(failures))],
        silent_gateways=neighbours.silent[:MAX_SILENT],
        conflict=neighbours.conflict if in_conflict else None,
        conflict_mac=neighbours.conflict_mac if in_conflict else "",
        route_probes=route_probes,
        conditions=tuple(transition(before, condition, now) for condition in conditions),
        # A schema without routeSets does not have this field either.
        observed_slices=overlay.slices if overlay.route_sets is not None else None,
    )


def _held_address(overlay: NodeOverlay, desired: Desired, checkpoint: CheckpointHealth) -> IpInterface | None:
    """Return the previous address of the node if a restart could restore it from the checkpoint.

    The controller would release an address that is not reported any more.
    """
    previous = overlay.report.configured
    if previous is None or not checkpoint.is_outdated:
        return None
    return None if desired.address is not None and desired.address.ip == previous.ip else previous


def _was_proven(overlay: NodeOverlay, configured: IpInterface | None, boot_id: str) -> bool:
    """Return whether the last report proves that the overlay link works: an agent may restart while a gateway is down.

    A report without routes proves nothing, because no gateway was probed yet.
    """
    report = overlay.report
    proofs = (find_condition(report.conditions, each) for each in (READY, GATEWAY_REACHABLE))
    return (
        overlay.has_own_report
        and report.observed_node.boot_id in ("", boot_id)
        and report.configured == configured
        and report.routes_desired > 0
        and any(proof is not None and proof.status is True for proof in proofs)
    )


def _find_failures(
    desired: Desired, plan: KernelPlan, errors: Mapping[DesiredRoute | None, str]
) -> tuple[RouteFailure, ...]:
    in_place = len(plan.placed) + len(plan.not_needed)
    if not plan.problems and in_place == len(desired.routes) and not errors.keys() - {None}:
        # The usual case avoids hashing thousands of routes.
        return ()
    problems = {problem.route: problem for problem in plan.problems if problem.route is not None}
    placed = {route for route, _ in (*plan.placed, *plan.not_needed)}
    failures = []
    for route in desired.routes:
        if route in problems and (route in placed or problems[route].reason != SHADOWED):
            failures.append(_failure(route, problems[route].reason, problems[route].message))
        elif route not in placed:
            error = errors.get(route)
            reason = ("KernelRefused", error) if error is not None else ("Pending", "not in the kernel yet")
            failures.append(_failure(route, *reason))
    return tuple(failures)


def _find_not_needed(plan: KernelPlan) -> tuple[RouteFailure, ...]:
    """Return one route of each StaticRoute: its routes have the same gateways."""
    first = {route.static_route: (route, message) for route, message in reversed(plan.not_needed)}
    return tuple(_failure(route, GATEWAY_IS_THIS_NODE, message) for _, (route, message) in sorted(first.items()))


def _failure(route: DesiredRoute, reason: str, message: str) -> RouteFailure:
    spec = route.spec
    gateway = str(spec.gateways[0].address) if spec.gateways else ""
    return RouteFailure(route.subnet, spec.metric, route.static_route, reason, message, gateway, spec.table)
