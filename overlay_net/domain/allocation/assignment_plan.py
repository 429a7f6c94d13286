"""Plans what is written to the status of a node with a reservation, and the release of its other reservations."""

from dataclasses import replace

from overlay_net.domain.allocation.conflict import (
    PROXY_ARP,
    is_proxy_arp,
    proxy_arp_message,
    uses_no_other_address,
    with_conflict_history,
)
from overlay_net.domain.allocation.missing_ipam import ipams_after_read, recorded_ipams
from overlay_net.domain.allocation.placement import announce_outdated, find_pool, find_present_pool, place
from overlay_net.domain.allocation.reservation_plan import Refusal
from overlay_net.domain.allocation.reserved_condition import RETRY_WITHOUT_ADDRESS, reserved_condition
from overlay_net.model.conditions import Condition
from overlay_net.model.ipam import Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import (
    Announce,
    AnnounceFirst,
    ApplyAssignment,
    ClusterAction,
    NodePlan,
    NodeView,
    Release,
)
from overlay_net.model.overlay import Assignment, NodeOverlay


def plan_update(view: NodeView, overlay: NodeOverlay, node: Node) -> NodePlan:
    """Plan a status update for a settled node whose pool has changed: name, gateway, prefix length, or selection."""
    pool = find_present_pool(view, overlay, node)
    before = overlay.assignment
    assignment = place(view, overlay, node, before, pool)
    reserved = before.reserved
    if reserved is not None and assignment.pool != before.pool and before.address is not None:
        reserved = replace(reserved, message=_reserved_message(before.address.ip, assignment.pool))
    # An object of an earlier version has no ``ipams`` yet.
    assignment = replace(assignment, ipams=tuple(sorted(recorded_ipams(view, overlay))), reserved=reserved)
    if assignment == before:
        return NodePlan()
    return NodePlan((ApplyAssignment(assignment), *announce_outdated(overlay, assignment)))


def plan_assignment(
    view: NodeView, overlay: NodeOverlay, node: Node, current: Reservation, refusal: Refusal | None = None
) -> NodePlan:
    """Write the current reservation to status, and release other ones once the agent does not use them.

    ``refusal`` is why the node does not have the address that it must have.
    """
    others = tuple(other for other in view.reservations or () if other.record != current.record)
    assignment = _assignment(view, overlay, node, current, others, refusal)
    actions: list[ClusterAction] = [ApplyAssignment(assignment)] if assignment != overlay.assignment else []
    actions += (*_announce_reserved(overlay, assignment), *announce_outdated(overlay, assignment))
    # An agent that uses the present address uses no other one.
    moved = overlay.report.configured == assignment.address and overlay.is_current
    actions += [Release(other) for other in others if moved or not _may_use(overlay, other.address.ip)]
    waits = refusal is not None or (view.exhausted and assignment.up_to_date is not None)
    return NodePlan(tuple(actions), RETRY_WITHOUT_ADDRESS if waits else None)


def plan_unused(view: NodeView, overlay: NodeOverlay) -> tuple[Release, ...]:
    """Release what a node without a reservation had before, if its agent uses none: it may fill the node's pool."""
    if not uses_no_other_address(overlay):
        return ()
    releasing = overlay.assignment.releasing
    return tuple(Release(each) for each in view.reservations or () if str(each.address.ip) in releasing)


def _assignment(
    view: NodeView,
    overlay: NodeOverlay,
    node: Node,
    current: Reservation,
    others: tuple[Reservation, ...],
    refusal: Refusal | None,
) -> Assignment:
    before, address = overlay.assignment, current.address
    pool = find_pool(view, node, current.pool, address.ip, {current.ipam})
    same = before.address is not None and before.address.ip == address.ip
    assignment = Assignment(
        # Without a usable pool, the prefix length is unchanged.
        address=before.address if pool is None and same else address,
        gateway=before.gateway,
        pool=current.pool or before.pool,
        node_uid=current.owner.uid,
        # Written before any of them is released, because this write fails for a controller with a stale view.
        releasing=tuple(str(other.address.ip) for other in others),
        ipams=ipams_after_read(view, overlay, (current, *others)),
        withdrawn=before.withdrawn,
        routes_accepted=before.routes_accepted,
    )
    placed = place(view, overlay, node, assignment, pool)
    reserved = _reserved(view, overlay, address.ip, placed.pool, refusal)
    return with_conflict_history(overlay, replace(placed, reserved=reserved), view.now)


def _reserved(
    view: NodeView, overlay: NodeOverlay, address: IpAddress, pool: str, refusal: Refusal | None
) -> Condition:
    if is_proxy_arp(view, overlay):
        return reserved_condition(view, overlay, PROXY_ARP, proxy_arp_message(overlay), status=False)
    if refusal is not None:
        return reserved_condition(view, overlay, refusal.reason, refusal.message, status=False)
    return reserved_condition(view, overlay, "Reserved", _reserved_message(address, pool), status=True)


def _announce_reserved(overlay: NodeOverlay, assignment: Assignment) -> tuple[Announce | AnnounceFirst, ...]:
    """Return an event if the node gets another address, or for a new reason why it does not get the desired one."""
    reserved, before = assignment.reserved, overlay.assignment.reserved
    if reserved is None:
        return ()
    refused = not reserved.status and (before is None or before.reason != reserved.reason)
    if not refused and _same_address(overlay.assignment, assignment):
        return ()
    if reserved.status and overlay.assignment.address is None and assignment.address is not None:
        return (AnnounceFirst(assignment.pool, assignment.address.ip),)
    return (Announce(reserved.reason, reserved.message, warning=not reserved.status),)


def _reserved_message(address: IpAddress, pool: str) -> str:
    return f"{address} is reserved from pool {pool}"


def _same_address(one: Assignment, other: Assignment) -> bool:
    return one.address is not None and other.address is not None and one.address.ip == other.address.ip


def _may_use(overlay: NodeOverlay, address: IpAddress) -> bool:
    """Return whether the agent may have read this address from the object, and use it."""
    before = overlay.assignment
    shown = (before.address, overlay.report.configured)
    if any(each and each.ip == address for each in shown):
        return True
    return str(address) in before.releasing and not uses_no_other_address(overlay)
