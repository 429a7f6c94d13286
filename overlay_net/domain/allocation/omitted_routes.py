"""Removes the condition by which an earlier version reported that a StaticRoute has no room in the object of a node."""

from dataclasses import replace

from overlay_net.model.node_actions import ApplyAssignment, NodePlan
from overlay_net.model.overlay import NodeOverlay


def plan_accepted_condition(overlay: NodeOverlay) -> NodePlan:
    """Plan the removal of RoutesAccepted=False once ``spec.omitted``, which it describes, is gone."""
    if overlay.assignment.routes_accepted is None or overlay.omitted:
        return NodePlan()
    return NodePlan((ApplyAssignment(replace(overlay.assignment, routes_accepted=None)),))
