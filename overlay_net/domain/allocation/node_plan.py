"""NodeView -> what the controller must do for one node: its object, its reservation, its deletion.

The life of an address, and every rule about when it may go back to the pool, is in this file:

* find before reserve: a reservation that carries our owner mark is used, never a second one made;
* a node that is gone keeps its address for ``release_after``, so that a reloaded node gets it back;
* an address is released only after the agent let go of it, or after the node has been gone, and the agent told to let
  go, for ``fence_after``;
* the finalizer goes after the release, never before it.
"""

from dataclasses import replace
from datetime import timedelta

from overlay_net.domain.allocation.conflict import QUARANTINE_TIME, conflict_pause, in_conflict
from overlay_net.domain.allocation.pool_addresses import may_hand_out
from overlay_net.domain.allocation.reserved_condition import since, tell
from overlay_net.domain.allocation.routes_only import plan_routes_only
from overlay_net.domain.allocation.withdrawn_routes import tell_of_withdrawn, withdrawals
from overlay_net.model.conditions import RESERVED, Condition
from overlay_net.model.ipam import Reservation
from overlay_net.model.names import NODE_LABEL, REGION_LABEL, ZONE_LABEL, label_value
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import (
    Announce,
    ApplyAssignment,
    ApplyOverlay,
    ClusterAction,
    DeleteOverlay,
    DropFinalizer,
    FindReservations,
    LifecyclePolicy,
    NodePlan,
    NodeView,
    Quarantine,
    Release,
    RemoveTaint,
    Reserve,
)
from overlay_net.model.overlay import Assignment, NodeOverlay
from overlay_net.model.pool import Pool

RETRY_WITHOUT_ADDRESS = timedelta(seconds=60)
"""Pools and releases wake the waiting nodes themselves; this is for what nobody announces."""

RETRY_LOST = timedelta(minutes=5)
"""For a record that only a person can give back."""


def plan_node(view: NodeView, policy: LifecyclePolicy) -> NodePlan:
    """The next steps for one node; empty once everything is as it must be."""
    if view.overlay is None:
        if view.node is None or policy.draining:
            return NodePlan()
        # Without routes: their gateway is not known before the address is.
        return NodePlan((ApplyOverlay(overlay_labels(view.node), ()),))
    if view.overlay.deleting:
        return _plan_deletion(view, view.overlay, policy)
    if policy.draining:
        return NodePlan((DeleteOverlay(),))
    if view.node is None:
        return _plan_absence(view, view.overlay, policy)
    plan = _plan_presence(view, view.overlay, view.node, policy)
    # An object that has just been made asks for nothing, which is soon in place.
    told = not any(isinstance(action, ApplyOverlay) for action in plan.actions)
    if told and policy.startup_taint in view.node.taints and view.overlay.is_ready:
        return replace(plan, actions=(*plan.actions, RemoveTaint(policy.startup_taint)))
    return plan


def overlay_labels(node: Node) -> dict[str, str]:
    labels = {NODE_LABEL: label_value(node.name), REGION_LABEL: node.region, ZONE_LABEL: node.zone}
    return {key: value for key, value in labels.items() if value}


# --- The node is gone, or its object is being deleted ---------------------------------------------------------------


def _plan_absence(view: NodeView, overlay: NodeOverlay, policy: LifecyclePolicy) -> NodePlan:
    since = overlay.assignment.node_gone_since
    if since is None:
        return NodePlan(_mark_gone(view, overlay), policy.release_after)
    remaining = since + policy.release_after - view.now
    return NodePlan((DeleteOverlay(),)) if remaining <= timedelta() else NodePlan((), remaining)


def _mark_gone(view: NodeView, overlay: NodeOverlay) -> tuple[ClusterAction, ...]:
    gone = replace(overlay.assignment, node_gone_since=view.now.replace(microsecond=0))
    return (ApplyAssignment(gone),)


def _plan_deletion(view: NodeView, overlay: NodeOverlay, policy: LifecyclePolicy) -> NodePlan:
    if not overlay.has_finalizer:
        return NodePlan()
    never_used = overlay.assignment.address is None and overlay.report.configured is None
    if not (overlay.is_released or never_used):
        since = overlay.assignment.node_gone_since
        if view.node is not None:
            message = f"deleted; waiting for the agent on node {view.name} to let go of the address"
            return NodePlan(tell(view, overlay, Condition(RESERVED, True, "WaitingForAgent", message)))
        if since is None:
            return NodePlan(_mark_gone(view, overlay), policy.fence_after)
        # From the deletion on: before it, an agent that is alive had nothing to let go of.
        told = max(since, overlay.deleted_at or since)
        remaining = told + policy.fence_after - view.now
        if remaining > timedelta():
            return NodePlan((), remaining)
    if view.ipam_failure is not None:
        reason, message = view.ipam_failure
        waiting = f"deleted; the address is not released yet: {message}"
        return NodePlan(tell(view, overlay, Condition(RESERVED, True, reason, waiting)))
    if view.reservations is None:
        return NodePlan((FindReservations(),))
    return NodePlan((*(Release(reservation) for reservation in view.reservations), DropFinalizer()))


# --- The node is there ----------------------------------------------------------------------------------------------


def _plan_presence(view: NodeView, overlay: NodeOverlay, node: Node, policy: LifecyclePolicy) -> NodePlan:
    labels, routes_only = overlay_labels(node), not policy.overlay_addresses
    labelled = all(overlay.labels.get(key) == value for key, value in labels.items())
    requested = (view.routes, view.generations, routes_only)
    same = (
        (overlay.routes, overlay.generations, overlay.routes_only) == requested and overlay.has_finalizer and labelled
    )
    withdrawn = withdrawals(overlay, view.routes, view.now)
    spec = () if same else (ApplyOverlay(labels, view.routes, routes_only, view.generations, withdrawn),)
    if routes_only:
        # The agent lets go of an address when the object tells it to.
        plan = NodePlan(spec) if spec else plan_routes_only(view, overlay)
        return plan if plan.actions else _and_withdrawn(view, overlay, plan)
    address = _plan_address(view, overlay, node)
    if any(not isinstance(action, FindReservations) for action in address.actions):
        # The routes were compiled with the gateway that this plan is about to change.
        return address
    if FindReservations() in address.actions and overlay.assignment.address is None:
        return address
    # Routes never wait for an IPAM: what the look-up finds comes with the next plan.
    return replace(address, actions=(*spec, *address.actions)) if spec else _and_withdrawn(view, overlay, address)


def _and_withdrawn(view: NodeView, overlay: NodeOverlay, plan: NodePlan) -> NodePlan:
    told = tell_of_withdrawn(overlay, view.now)
    waits = [wait for wait in (plan.requeue_after, told.requeue_after) if wait is not None]
    return NodePlan((*plan.actions, *told.actions), min(waits, default=None))


def _settled(view: NodeView, overlay: NodeOverlay, node: Node) -> bool:
    """Whether the object alone shows that the address is reserved, as wished, and the only one."""
    current = overlay.assignment.address
    reserved = overlay.assignment.reserved
    return (
        current is not None
        and reserved is not None
        and reserved.status
        # Another one tells of a release that was called off.
        and reserved.reason == "Reserved"
        and not view.check_ipam
        and not overlay.assignment.releasing
        and not in_conflict(overlay)
        and overlay.assignment.node_uid == node.uid
        and overlay.assignment.node_gone_since is None
        and (overlay.pin is None or overlay.pin == current.ip)
        and overlay.report.configured in (None, current)
    )


def _plan_address(view: NodeView, overlay: NodeOverlay, node: Node) -> NodePlan:
    if view.ipam_failure is not None:
        # An address that is in use stays, whatever is wrong with the system that keeps its record.
        return NodePlan() if overlay.assignment.address is not None else _without(view, overlay, *view.ipam_failure)
    if view.reservations is None:
        if _settled(view, overlay, node):
            return NodePlan(_keep_gateway(view, overlay))
        return NodePlan((FindReservations(),))
    reservations = view.reservations
    pools = tuple(pool for pool in view.pools if pool.serves(node) and not pool.deleting and not pool.problem)
    before = overlay.assignment.address
    if in_conflict(overlay) and before is not None:
        wait = conflict_pause(overlay, view.now)
        if wait > timedelta():
            return NodePlan((), wait)
        mine = next((each for each in reservations if each.address.ip == before.ip), None)
        if mine is not None:
            return NodePlan((Quarantine(mine, view.now + QUARANTINE_TIME),))
        view = replace(view, taken=view.taken | {before.ip})
    requested = overlay.pin or (before.ip if before else None)
    sound = tuple(each for each in reservations if not each.double_assigned and _may_use(view, each, requested))
    twice = frozenset(reservation.address.ip for reservation in reservations if reservation.double_assigned)
    view = replace(view, taken=view.taken | twice)
    current = _current(sound, requested, pinned=overlay.pin is not None)
    if current is not None:
        return _plan_reserved(view, overlay, node, current)
    return _plan_reservation(view, overlay, pools, requested)


def _may_use(view: NodeView, reservation: Reservation, requested: IpAddress | None) -> bool:
    """Whether the node may have it: a crash may have left a record of an address that should not have been given."""
    address = reservation.address.ip
    pool = _pool_of(view, reservation.pool, address)
    return address == requested or pool is None or may_hand_out(pool, address)


def _current(reservations: tuple[Reservation, ...], requested: IpAddress | None, *, pinned: bool) -> Reservation | None:
    """The reservation that counts: that of the wanted address, else (unless it is pinned) the lowest one we own."""
    ordered = sorted(reservations, key=lambda reservation: int(reservation.address.ip))
    exact = next((reservation for reservation in ordered if reservation.address.ip == requested), None)
    return exact or (ordered[0] if ordered and not pinned else None)


def _plan_reserved(view: NodeView, overlay: NodeOverlay, node: Node, current: Reservation) -> NodePlan:
    pool = _pool_of(view, current.pool, current.address.ip)
    before = overlay.assignment.address
    # The node came back as a new object: the record must carry the mark of the present one.
    returned = current.owner.uid != node.uid
    # An address that the object does not show may be one whose release was decided, by a controller that stood still
    # since: it counts only after a write to its record, which that release no longer fits.
    found = bool(current.version) and not current.fresh and (before is None or before.ip != current.address.ip)
    if (returned or found) and pool is not None:
        return NodePlan((Reserve((pool,), current.address.ip),))
    message = f"{current.address.ip} is reserved from pool {current.pool}"
    left = in_conflict(overlay) and before is not None and before.ip != current.address.ip
    others = tuple(other for other in view.reservations or () if other.record != current.record)
    assignment = Assignment(
        # The prefix length is the pool's: while the pool cannot be seen, the one in use stays.
        address=before if pool is None and before and before.ip == current.address.ip else current.address,
        gateway=overlay.gateway_override or (pool.gateway if pool else overlay.assignment.gateway),
        pool=current.pool,
        node_uid=current.owner.uid,
        # Before any of them is released: this write fails for a controller whose view of the object is old.
        releasing=tuple(str(other.address.ip) for other in others),
        conflicts=overlay.assignment.conflicts + left,
        last_conflict=view.now.replace(microsecond=0) if left else overlay.assignment.last_conflict,
        withdrawn=overlay.assignment.withdrawn,
        reserved=since(view, overlay, Condition(RESERVED, True, "Reserved", message)),
    )
    actions: list[ClusterAction] = []
    if assignment != overlay.assignment:
        actions.append(ApplyAssignment(assignment))
    if assignment.address != before:
        actions.append(Announce("Reserved", message, warning=False))
    # Once the agent uses the present address it is certain that the node no longer uses any other one.
    moved = overlay.report.configured == assignment.address and overlay.report.observed_generation >= overlay.generation
    actions += [Release(other) for other in others if moved or not _was_shown(overlay, other.address.ip)]
    return NodePlan(tuple(actions))


def _was_shown(overlay: NodeOverlay, address: IpAddress) -> bool:
    """Whether the agent may ever have read this address from the object."""
    shown = (overlay.assignment.address, overlay.report.configured)
    return str(address) in overlay.assignment.releasing or any(each and each.ip == address for each in shown)


def _plan_reservation(
    view: NodeView, overlay: NodeOverlay, pools: tuple[Pool, ...], requested: IpAddress | None
) -> NodePlan:
    """No reservation counts: take one, or say why there is none."""
    before = overlay.assignment.address
    problem = ""
    if not pools:
        return _without(view, overlay, "NoPool", "no usable OverlayPool serves this node: see kubectl get overlaypools")
    if requested is not None:
        holding = tuple(pool for pool in pools if pool.cidr is not None and requested in pool.cidr)
        if not holding:
            problem, reason = f"{requested} is in no OverlayPool that serves this node", "OutsidePools"
        elif (
            requested in view.taken
            or requested in view.used_elsewhere
            # What the node has already it keeps, though it would not be handed out any more.
            or not ((before and before.ip == requested) or any(may_hand_out(pool, requested) for pool in holding))
        ):
            holder = view.holders.get(requested)
            problem, reason = f"{requested} belongs to somebody else or is never handed out", "AddressTaken"
            if holder is not None:
                problem = f"{requested} is recorded for {holder!r} in the IPAM"
        else:
            # Our own assignments name the Node's uid: an address without one was assigned by the earlier operator.
            inherited = before is not None and before.ip == requested and overlay.assignment.node_uid == ""
            return NodePlan((Reserve(holding, requested, adopt=inherited),))
        if overlay.pin is not None:
            return _without(view, overlay, reason, f"spec.ipAddr: {problem}")
        if requested in view.holders:
            # A person may have edited the record by mistake: a live node is not renumbered for that.
            advice = "the node keeps using it; give the record back, or delete this object to get another address"
            lost = _without(view, overlay, "RecordTaken", f"{problem}; {advice}")
            return replace(lost, requeue_after=RETRY_LOST)
        if reason == "OutsidePools":
            # The pool is missing, not the record: a pool that is deleted by mistake must not renumber its nodes.
            return _without(view, overlay, "PoolMissing", problem)
    if view.exhausted:
        names = ", ".join(pool.name for pool in pools)
        return _without(view, overlay, "Exhausted", f"no free address in {names}")
    announced = (Announce("AddressLost", f"{problem}; another one is taken", warning=True),) if problem else ()
    return NodePlan((*announced, Reserve(pools)))


def _without(view: NodeView, overlay: NodeOverlay, reason: str, message: str) -> NodePlan:
    return NodePlan(tell(view, overlay, Condition(RESERVED, False, reason, message)), RETRY_WITHOUT_ADDRESS)


def _keep_gateway(view: NodeView, overlay: NodeOverlay) -> tuple[ClusterAction, ...]:
    """The pool's gateway may change while the address stays."""
    address = overlay.assignment.address
    pool = _pool_of(view, overlay.assignment.pool, address.ip if address else None)
    gateway = overlay.gateway_override or (pool.gateway if pool else None) or overlay.assignment.gateway
    if gateway == overlay.assignment.gateway:
        return ()
    return (ApplyAssignment(replace(overlay.assignment, gateway=gateway)),)


def _pool_of(view: NodeView, name: str, address: IpAddress | None) -> Pool | None:
    """The pool of that name, if it is still the one of ``address``: it may have been made anew with another subnet."""
    pool = next((pool for pool in view.pools if pool.name == name), None)
    return pool if pool and pool.cidr and address is not None and address in pool.cidr else None
