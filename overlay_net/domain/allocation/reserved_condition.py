"""The condition ``Reserved`` of a NodeOverlayIp, and the events for its changes."""

from dataclasses import replace
from datetime import timedelta

from overlay_net.model.conditions import RESERVED, Condition, transition
from overlay_net.model.node_actions import Announce, ApplyAssignment, ClusterAction, NodePlan, NodeView
from overlay_net.model.overlay import NodeOverlay

RETRY_WITHOUT_ADDRESS = timedelta(seconds=60)
"""Retry delay for changes that no watch reports; a changed pool or a release wakes waiting nodes at once."""


def plan_without_address(view: NodeView, overlay: NodeOverlay, reason: str, message: str) -> NodePlan:
    """Report why there is no reservation, and retry later."""
    return NodePlan(report_reserved(view, overlay, reason, message, status=False), RETRY_WITHOUT_ADDRESS)


def report_reserved(
    view: NodeView, overlay: NodeOverlay, reason: str, message: str, *, status: bool
) -> tuple[ClusterAction, ...]:
    """Write the condition and leave the address unchanged; a new reason causes an event."""
    node_gone_since = None if view.node is not None else overlay.assignment.node_gone_since
    condition = reserved_condition(view, overlay, reason, message, status=status)
    assignment = replace(overlay.assignment, reserved=condition, node_gone_since=node_gone_since)
    if assignment == overlay.assignment:
        return ()
    before = overlay.assignment.reserved
    if before is not None and before.reason == reason:
        return (ApplyAssignment(assignment),)
    return (ApplyAssignment(assignment), Announce(reason, message, warning=not status))


def reserved_condition(view: NodeView, overlay: NodeOverlay, reason: str, message: str, *, status: bool) -> Condition:
    """Return the condition with the time of its last transition."""
    before = (overlay.assignment.reserved,) if overlay.assignment.reserved else ()
    return transition(before, Condition(RESERVED, status, reason, message), view.now)
