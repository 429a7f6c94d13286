"""Tracks the StaticRoutes whose routes a node must remove, and decides when to report them.

The deletion of a StaticRoute does not wait for agents. Instead, ``spec.withdrawn`` of the NodeOverlayIps names the
StaticRoutes whose routes the last changes removed. It is written together with the routes, is relevant until the agent
has observed that generation of the spec, and is removed by the next change after that. An agent that comes back removes
the routes by itself; a node that is gone is fenced together with its object.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from overlay_net.model.conditions import ROUTES_WITHDRAWN, Condition, transition
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.node_actions import Announce, ApplyAssignment, NodePlan, NodeView
from overlay_net.model.overlay import NodeOverlay, Withdrawal

CONFIRMATION_TIMEOUT = timedelta(seconds=15)
"""A healthy agent confirms within a second or two; nothing is reported or written before this timeout."""

MAX_NAMES = 10
"""Maximum number of StaticRoutes that a message names."""


def find_withdrawals(overlay: NodeOverlay, routes: Iterable[DesiredRoute], now: datetime) -> tuple[Withdrawal, ...]:
    """Return the ``spec.withdrawn`` to write together with ``routes``."""
    since = {} if overlay.is_current else {each.static_route: each.since for each in overlay.withdrawn}
    names = ({route.static_route for route in overlay.routes} | since.keys()) - {route.static_route for route in routes}
    return tuple(Withdrawal(name, since.get(name) or now) for name in sorted(names) if name)


def plan_withdrawn_condition(view: NodeView, overlay: NodeOverlay) -> NodePlan:
    """Plan the condition RoutesWithdrawn=False and an event while the agent does not confirm; else an empty plan."""
    pending = () if overlay.is_current else overlay.withdrawn
    before = overlay.assignment.withdrawn
    if not pending:
        return (
            NodePlan() if before is None else NodePlan((ApplyAssignment(replace(overlay.assignment, withdrawn=None)),))
        )
    began = min((each.since for each in pending if each.since), default=None)
    waited = view.elapsed("Withdrawn", (overlay.uid, began))
    if waited < CONFIRMATION_TIMEOUT:
        return NodePlan((), CONFIRMATION_TIMEOUT - waited)
    desired = Condition(ROUTES_WITHDRAWN, False, "WaitingForAgent", _message(overlay.name, pending))
    condition = transition((before,) if before else (), desired, view.now)
    if condition == before:
        return NodePlan()
    apply = ApplyAssignment(replace(overlay.assignment, withdrawn=condition))
    return NodePlan((apply, Announce("RoutesNotConfirmedGone", condition.message, warning=True)))


def _message(node: str, pending: tuple[Withdrawal, ...]) -> str:
    names = ", ".join(each.static_route for each in pending[:MAX_NAMES])
    more = f" and {len(pending) - MAX_NAMES} more" if len(pending) > MAX_NAMES else ""
    return (
        f"node {node} may still have routes of {names}{more} that it must not have any more: its agent has not "
        f"confirmed their removal"
    )
