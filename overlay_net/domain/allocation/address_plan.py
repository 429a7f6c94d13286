"""Plans the address of an existing node: which of its reservations to use, and which ones to release.

An existing reservation with the node's owner tag is used instead of making a second one. A node that shows an address
keeps it, whatever other records there are: if the record of its address is missing, it is reserved again. The node's
present address is released only after the agent reports another one.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from overlay_net.domain.allocation.conflict import (
    PROXY_ARP,
    QUARANTINE_TIME,
    conflict_pause,
    in_conflict,
    is_proxy_arp,
    proxy_arp_message,
    uses_assigned_address,
    with_conflict_history,
)
from overlay_net.domain.allocation.current_reservation import find_current, find_usable
from overlay_net.domain.allocation.missing_ipam import ipams_after_read, recorded_ipams
from overlay_net.domain.allocation.reservation_plan import find_loss, plan_reservation, report_loss
from overlay_net.domain.allocation.reserved_condition import plan_without_address, reserved_condition
from overlay_net.model.conditions import CONFIGURED, Condition, find_condition
from overlay_net.model.ipam import Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import (
    Announce,
    ApplyAssignment,
    ClusterAction,
    FindReservations,
    NodePlan,
    NodeView,
    Quarantine,
    Release,
    Reserve,
)
from overlay_net.model.overlay import Assignment, NodeOverlay
from overlay_net.model.pool import Pool


def plan_address(view: NodeView, overlay: NodeOverlay, node: Node) -> NodePlan:
    """Plan the steps that reconcile the object's assignment with the reservations in the IPAM."""
    if view.ipam_failure is not None:
        # An address in use is kept, even if its IPAM fails.
        assigned = overlay.assignment.address is not None
        return NodePlan() if assigned else plan_without_address(view, overlay, *view.ipam_failure)
    if view.reservations is None:
        if _is_settled(view, overlay, node):
            return NodePlan(_update_gateway(view, overlay))
        return NodePlan((FindReservations(),))
    reservations = view.reservations
    conflict = _plan_conflict(view, overlay, reservations)
    if conflict is not None:
        return conflict
    view = replace(view, taken=view.taken | _unusable_addresses(view, overlay, reservations))
    usable = find_usable(view, overlay, reservations)
    current = find_current(view, overlay, usable)
    if current is not None:
        return _plan_use(view, overlay, node, current)
    loss = find_loss(view, overlay, node) if usable else None
    if loss is not None:
        plan = _plan_use(view, overlay, node, usable[0])
        return replace(plan, actions=(report_loss(loss), *plan.actions))
    return plan_reservation(view, overlay, node)


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
        and overlay.report.configured in (None, current)
    )


def _update_gateway(view: NodeView, overlay: NodeOverlay) -> tuple[ClusterAction, ...]:
    """Plan a status update if the pool's gateway has changed while the address is the same."""
    address = overlay.assignment.address
    pool = _find_pool(view, overlay.assignment.pool, address.ip if address else None)
    gateway = overlay.gateway_override or (pool.gateway if pool else None) or overlay.assignment.gateway
    # An object of an earlier version has no ``ipams`` yet.
    ipams = tuple(sorted(recorded_ipams(view, overlay)))
    assignment = replace(overlay.assignment, gateway=gateway, ipams=ipams)
    return (ApplyAssignment(assignment),) if assignment != overlay.assignment else ()


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


def _plan_use(view: NodeView, overlay: NodeOverlay, node: Node, current: Reservation) -> NodePlan:
    pool = _find_pool(view, current.pool, current.address.ip)
    if pool is not None and _needs_rewrite(overlay, node, current):
        return NodePlan((Reserve((pool,), current.address.ip),))
    return _plan_assignment(view, overlay, current, pool)


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


def _plan_assignment(view: NodeView, overlay: NodeOverlay, current: Reservation, pool: Pool | None) -> NodePlan:
    """Write the current reservation to status, and release other ones once the agent does not use them."""
    others = tuple(other for other in view.reservations or () if other.record != current.record)
    reserved = _reserved(view, overlay, current)
    assignment = _assignment(view, overlay, current, pool, others, reserved)
    actions: list[ClusterAction] = []
    if assignment != overlay.assignment:
        actions.append(ApplyAssignment(assignment))
    before = overlay.assignment.reserved
    if assignment.address != overlay.assignment.address or (
        not reserved.status and (before is None or before.reason != reserved.reason)
    ):
        actions.append(Announce(reserved.reason, reserved.message, warning=not reserved.status))
    # An agent that uses the present address uses no other one.
    moved = overlay.report.configured == assignment.address and overlay.is_current
    actions += [Release(other) for other in others if moved or not _was_shown(overlay, other.address.ip)]
    return NodePlan(tuple(actions))


def _reserved(view: NodeView, overlay: NodeOverlay, current: Reservation) -> Condition:
    if is_proxy_arp(view, overlay):
        return reserved_condition(view, overlay, PROXY_ARP, proxy_arp_message(overlay), status=False)
    message = f"{current.address.ip} is reserved from pool {current.pool or overlay.assignment.pool}"
    return reserved_condition(view, overlay, "Reserved", message, status=True)


def _assignment(
    view: NodeView,
    overlay: NodeOverlay,
    current: Reservation,
    pool: Pool | None,
    others: tuple[Reservation, ...],
    reserved: Condition,
) -> Assignment:
    before = overlay.assignment
    same = before.address is not None and before.address.ip == current.address.ip
    assignment = Assignment(
        # The prefix length comes from the pool; without a usable pool, it is unchanged.
        address=before.address if pool is None and same else current.address,
        gateway=overlay.gateway_override or (pool.gateway if pool else before.gateway),
        pool=current.pool or before.pool,
        node_uid=current.owner.uid,
        # Written before any of them is released, because this write fails for a controller with a stale view.
        releasing=tuple(str(other.address.ip) for other in others),
        ipams=ipams_after_read(view, overlay, (current, *others)),
        withdrawn=before.withdrawn,
        reserved=reserved,
    )
    return with_conflict_history(overlay, assignment, view.now)


def _was_shown(overlay: NodeOverlay, address: IpAddress) -> bool:
    """Return whether the agent may have read this address from the object."""
    shown = (overlay.assignment.address, overlay.report.configured)
    return str(address) in overlay.assignment.releasing or any(each and each.ip == address for each in shown)


def _find_pool(view: NodeView, name: str, address: IpAddress | None) -> Pool | None:
    """Return the pool with this name if it contains ``address``; it may have been re-created with another subnet."""
    pool = next((pool for pool in view.pools if pool.name == name), None)
    return pool if pool and pool.cidr and address is not None and address in pool.cidr else None
