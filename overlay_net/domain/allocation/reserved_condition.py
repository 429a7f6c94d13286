"""The condition ``Reserved`` of a node's object, and when it is worth an event."""

from dataclasses import replace

from overlay_net.model.conditions import Condition, transition
from overlay_net.model.node_actions import Announce, ApplyAssignment, ClusterAction, NodeView
from overlay_net.model.overlay import NodeOverlay


def tell(view: NodeView, overlay: NodeOverlay, condition: Condition) -> tuple[ClusterAction, ...]:
    """Write the condition (the address itself stays as it is) and, when its reason is new, an event."""
    gone = None if view.node is not None else overlay.assignment.node_gone_since
    assignment = replace(overlay.assignment, reserved=since(view, overlay, condition), node_gone_since=gone)
    if assignment == overlay.assignment:
        return ()
    before = overlay.assignment.reserved
    if before is not None and before.reason == condition.reason:
        return (ApplyAssignment(assignment),)
    return (ApplyAssignment(assignment), Announce(condition.reason, condition.message, warning=not condition.status))


def since(view: NodeView, overlay: NodeOverlay, desired: Condition) -> Condition:
    """``wanted``, with the time since when it holds."""
    observed = (overlay.assignment.reserved,) if overlay.assignment.reserved else ()
    return transition(observed, desired, view.now)
