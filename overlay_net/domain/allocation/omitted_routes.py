"""Reports the StaticRoutes whose routes do not fit into the object of a node."""

from dataclasses import replace

from overlay_net.model.conditions import ROUTES_ACCEPTED, TOO_MANY_ROUTES, Condition, transition
from overlay_net.model.node_actions import Announce, ApplyAssignment, NodePlan, NodeView
from overlay_net.model.overlay import NodeOverlay

MAX_NAMES = 10
"""Maximum number of StaticRoutes that a message names."""


def plan_omitted_condition(view: NodeView, overlay: NodeOverlay) -> NodePlan:
    """Plan the condition RoutesAccepted=False and an event if ``spec.omitted`` names a StaticRoute."""
    before = overlay.assignment.routes_accepted
    condition = None
    if overlay.omitted:
        desired = Condition(ROUTES_ACCEPTED, False, TOO_MANY_ROUTES, _message(overlay))
        condition = transition((before,) if before else (), desired, view.now)
    if condition == before:
        return NodePlan()
    apply = ApplyAssignment(replace(overlay.assignment, routes_accepted=condition))
    if condition is None:
        return NodePlan((apply,))
    return NodePlan((apply, Announce(condition.reason, condition.message, warning=True)))


def _message(overlay: NodeOverlay) -> str:
    names = ", ".join(overlay.omitted[:MAX_NAMES])
    more = f" and {len(overlay.omitted) - MAX_NAMES} more" if len(overlay.omitted) > MAX_NAMES else ""
    return (
        f"node {overlay.name} has no room for the current routes of {names}{more}: its object holds 1 MiB of routes; "
        "use fewer or larger subnets, or select fewer nodes"
    )
