"""Plans the address of an existing node: which of its reservations to use, and which ones to release.

An existing reservation with the node's owner tag is used instead of making a second one. A node that shows an address
keeps it, whatever other records there are: if the record of its address is missing, it is reserved again. The node's
present address is released only after the agent reports another one.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from overlay_net.domain.allocation.assignment_plan import plan_assignment, plan_unused, plan_update
from overlay_net.domain.allocation.conflict import (
    QUARANTINE_TIME,
    conflict_pause,
    in_conflict,
    is_proxy_arp,
    uses_assigned_address,
)
from overlay_net.domain.allocation.current_reservation import find_current, find_shown, find_usable
from overlay_net.domain.allocation.missing_ipam import recorded_ipams
from overlay_net.domain.allocation.pin_cycle import explain_cycle, gives_way
from overlay_net.domain.allocation.placement import address_to_leave, find_pool
from overlay_net.domain.allocation.reservation_plan import (
    Refusal,
    find_loss,
    plan_reservation,
    report_loss,
    requested_address,
)
from overlay_net.domain.allocation.reserved_condition import plan_without_address
from overlay_net.model.conditions import CONFIGURED, find_condition
from overlay_net.model.ipam import Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import (
    Announce,
    FindReservations,
    NodePlan,
    NodeView,
    Quarantine,
    Reserve,
)
from overlay_net.model.overlay import NodeOverlay


def plan_address(view: NodeView, overlay: NodeOverlay, node: Node) -> NodePlan:
    """Plan the steps that reconcile the object's assignment with the reservations in the IPAM."""
    if view.ipam_failure is not None:
        # An address in use is kept, even if its IPAM fails.
        assigned = overlay.assignment.address is not None
        return NodePlan() if assigned else plan_without_address(view, overlay, *view.ipam_failure)
    if view.reservations is None:
        if _is_settled(view, overlay, node) and address_to_leave(view, overlay, node) is None:
            return plan_update(view, overlay, node)
        return NodePlan((FindReservations(),))
    reservations = view.reservations
    conflict = _plan_conflict(view, overlay, reservations)
    if conflict is not None:
        return conflict
    unusable = _unusable_addresses(view, overlay, reservations)
    if unusable:
        view = replace(view, taken=view.taken | unusable)
    requested, leaving = _requested(view, overlay, node)
    usable = [each for each in find_usable(view, overlay, reservations) if each.address.ip != leaving]
    current = find_current(view, overlay, usable, requested)
    if current is not None:
        return _plan_use(view, overlay, node, current)
    loss = find_loss(view, overlay, node) if usable else None
    if loss is not None:
        plan = _plan_use(view, overlay, node, usable[0])
        return replace(plan, actions=(report_loss(loss), *plan.actions))
    result = plan_reservation(view, overlay, node, requested)
    return result if isinstance(result, NodePlan) else _plan_refused(view, overlay, node, result)


def _requested(view: NodeView, overlay: NodeOverlay, node: Node) -> tuple[IpAddress | None, IpAddress | None]:
    """Return the address that the node must have, None for any, and the present one if the node must give it up.

    While there is no other address, the node keeps the present one.
    """
    address = overlay.assignment.address
    if not view.exhausted and address is not None:
        leaving = address.ip if gives_way(view, overlay) else address_to_leave(view, overlay, node)
        if leaving is not None:
            return None, leaving
    return requested_address(overlay), None


def _plan_refused(view: NodeView, overlay: NodeOverlay, node: Node, refusal: Refusal) -> NodePlan:
    """Report why the node does not get the address that it must have; it keeps the one that it has a record for."""
    if view.exhausted:
        refusal = explain_cycle(view, overlay, refusal)
    shown = find_shown(overlay, view.reservations or ())
    if shown is not None:
        return _plan_use(view, overlay, node, shown, refusal)
    plan = plan_without_address(view, overlay, refusal.reason, refusal.message)
    return replace(plan, actions=(*plan.actions, *plan_unused(view, overlay)), requeue_after=refusal.retry)


def _is_settled(view: NodeView, overlay: NodeOverlay, node: Node) -> bool:
    """Return whether, according to the object, its address is reserved, the requested one, and the node's only one."""
    current = overlay.assignment.address
    reserved = overlay.assignment.reserved
    pool = next((each for each in view.pools if each.name == overlay.assignment.pool), None)
    return (
        current is not None
        and reserved is not None
        and reserved.status is True
        # Any other reason comes from a release that was cancelled.
        and reserved.reason == "Reserved"
        and not view.check_ipam
        and not overlay.assignment.releasing
        # A record in another IPAM, which was not configured when the node moved.
        and not (pool is not None and (recorded_ipams(view, overlay) & view.ipams) - {pool.ipam})
        and not in_conflict(overlay)
        and not (overlay.assignment.consecutive_conflicts and uses_assigned_address(overlay))
        and overlay.assignment.node_uid == node.uid
        and overlay.assignment.node_gone_since is None
        and (overlay.pin is None or overlay.pin == current.ip)
        and (overlay.report.configured is None or overlay.report.configured.ip == current.ip)
    )


# --- Conflicts --------------------------------------------------------------------------------------------------------


def _plan_conflict(view: NodeView, overlay: NodeOverlay, reservations: Iterable[Reservation]) -> NodePlan | None:
    """Quarantine an address that another host uses; None if there is nothing to quarantine or it would not help."""
    address = overlay.assignment.address
    if address is None or not in_conflict(overlay) or is_proxy_arp(view, overlay):
        return None
    wait = conflict_pause(view, overlay)
    if wait > timedelta():
        return NodePlan((), wait)
    reservation = next((each for each in reservations if each.address.ip == address.ip), None)
    if reservation is None:
        return None
    configured = find_condition(overlay.report.conditions, CONFIGURED)
    problem = configured.message if configured else f"{address.ip} is in use by another host"
    hours = QUARANTINE_TIME // timedelta(hours=1)
    message = f"{problem}; {address.ip} is quarantined for {hours}h, and the node gets another address"
    return NodePlan(
        (
            Quarantine(reservation, view.now + QUARANTINE_TIME),
            Announce("AddressQuarantined", message, warning=True),
        )
    )


def _unusable_addresses(
    view: NodeView, overlay: NodeOverlay, reservations: Iterable[Reservation]
) -> frozenset[IpAddress]:
    unusable = {reservation.address.ip for reservation in reservations if reservation.double_assigned}
    if overlay.assignment.address is not None and in_conflict(overlay) and not is_proxy_arp(view, overlay):
        unusable.add(overlay.assignment.address.ip)
    return frozenset(unusable)


# --- The current reservation ------------------------------------------------------------------------------------------


def _plan_use(
    view: NodeView, overlay: NodeOverlay, node: Node, current: Reservation, refusal: Refusal | None = None
) -> NodePlan:
    pool = find_pool(view, node, current.pool, current.address.ip, {current.ipam})
    if pool is not None and _needs_rewrite(overlay, node, current):
        return NodePlan((Reserve((pool,), current.address.ip),))
    return plan_assignment(view, overlay, node, current, refusal)


def _needs_rewrite(overlay: NodeOverlay, node: Node, current: Reservation) -> bool:
    """Return whether the record must be written before the node may use it.

    This is the case if the node was re-created, as the record must have the present owner tag. It is also the case if
    the object does not have this address: a controller that was paused may be about to release the record, and a write
    makes that release fail.
    """
    if current.owner.uid != node.uid:
        return True
    shown = overlay.assignment.address
    return bool(current.version) and not current.fresh and (shown is None or shown.ip != current.address.ip)
