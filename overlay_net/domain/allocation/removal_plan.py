"""Plans the release of the address of a NodeOverlayIp whose Node is gone, or that is being deleted.

An address is released only once no kernel can have it any more: after the agent has reported its removal, or after this
process has observed for ``fence_after`` that the Node is gone and the object marked for deletion.
"""

from dataclasses import replace
from datetime import timedelta

from overlay_net.domain.allocation.missing_ipam import find_missing_ipam
from overlay_net.domain.allocation.reserved_condition import report_reserved
from overlay_net.model.node_actions import (
    ApplyAssignment,
    ClusterAction,
    ConfirmNodeGone,
    DeleteOverlay,
    DropFinalizer,
    FindReservations,
    LifecyclePolicy,
    NodePlan,
    NodeView,
    Release,
)
from overlay_net.model.overlay import NodeOverlay


def plan_absence(view: NodeView, overlay: NodeOverlay, policy: LifecyclePolicy) -> NodePlan:
    """Keep the object of a deleted Node for ``release_after``, so that a re-created node gets the same address.

    It is deleted at once if another node waits for an address of a full pool.
    """
    if overlay.assignment.node_gone_since is None:
        return NodePlan(_mark_node_gone(view, overlay), policy.release_after)
    remaining = policy.release_after - _observed_gone(view, overlay)
    waits = remaining > timedelta() and not view.address_needed
    return NodePlan((), remaining) if waits else plan_delete(view)


def plan_delete(view: NodeView) -> NodePlan:
    return NodePlan((*_confirm_absence(view), DeleteOverlay()))


def plan_deletion(view: NodeView, overlay: NodeOverlay, policy: LifecyclePolicy) -> NodePlan:
    """Plan the deletion of an object: wait for the agent, release the address, then remove the finalizer."""
    if not overlay.has_finalizer:
        return NodePlan()
    if may_be_in_use(overlay):
        waiting = _wait_for_agent(view, overlay, policy)
        if waiting is not None:
            return waiting
    failure = view.ipam_failure or find_missing_ipam(view, overlay)
    if failure is not None:
        reason, error = failure
        message = f"deleted; the address is not released yet: {error}"
        return NodePlan(report_reserved(view, overlay, reason, message, status=True))
    if view.reservations is None:
        return NodePlan((FindReservations(),))
    releases = (Release(reservation) for reservation in view.reservations)
    return NodePlan((*_confirm_absence(view), *releases, DropFinalizer()))


def may_be_in_use(overlay: NodeOverlay) -> bool:
    """Return whether a kernel may have the address of an object, so that its node must answer or be fenced."""
    never_used = overlay.assignment.address is None and overlay.report.configured is None
    return not (overlay.is_released or never_used)


def _wait_for_agent(view: NodeView, overlay: NodeOverlay, policy: LifecyclePolicy) -> NodePlan | None:
    """Return the plan while the node's kernel may still have the address; None once the node counts as fenced."""
    if view.node is not None:
        message = f"deleted; waiting for the agent on node {view.name} to remove the address"
        return NodePlan(report_reserved(view, overlay, "WaitingForAgent", message, status=True))
    if overlay.assignment.node_gone_since is None:
        return NodePlan(_mark_node_gone(view, overlay), policy.fence_after)
    remaining = policy.fence_after - _observed_gone(view, overlay)
    return NodePlan((), remaining) if remaining > timedelta() else None


def _observed_gone(view: NodeView, overlay: NodeOverlay) -> timedelta:
    """Return for how long the Node was observed to be gone with the object as it is.

    The deletion of the object starts it again, because a running agent keeps the address until then. So does another
    ``node_gone_since``: then another controller has observed the Node in between.
    """
    return view.elapsed("NodeGone", (overlay.uid, overlay.assignment.node_gone_since, overlay.deleting))


def _mark_node_gone(view: NodeView, overlay: NodeOverlay) -> tuple[ClusterAction, ...]:
    return (ApplyAssignment(replace(overlay.assignment, node_gone_since=view.now)),)


def _confirm_absence(view: NodeView) -> tuple[ClusterAction, ...]:
    """Confirm that the Node is gone, so that a stalled watch does not remove the overlay of a running node."""
    return () if view.node is not None else (ConfirmNodeGone(),)
