"""Tracks the StaticRoutes whose routes a node must remove, and decides when to report them.

The deletion of a StaticRoute does not wait for agents. Instead, the slice that it is removed from names it until every
node has observed that, and ``spec.withdrawn`` of a NodeOverlayIp names the StaticRoutes whose routes the node lost with
a route set. The latter is written together with the sets, is relevant until the agent has observed that generation of
the spec, and is removed by the next change after that. An agent that comes back removes the routes by itself; a node
that is gone is fenced together with its object.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from overlay_net.model.conditions import ROUTES_WITHDRAWN, Condition, transition
from overlay_net.model.node_actions import Announce, ApplyAssignment, NodePlan, NodeView
from overlay_net.model.overlay import NodeOverlay, Withdrawal
from overlay_net.model.route_slice import NamedSet
from overlay_net.model.wording import name_some

CONFIRMATION_TIMEOUT = timedelta(seconds=15)
"""A healthy agent confirms within a second or two; nothing is reported or written before this timeout."""

MAX_NAMES = 10
"""Maximum number of StaticRoutes that a message names."""


def find_withdrawals(view: NodeView, overlay: NodeOverlay, sets: Sequence[NamedSet]) -> tuple[Withdrawal, ...]:
    """Return the ``spec.withdrawn`` to write together with these sets."""
    since = {} if overlay.is_current else {each.static_route: each.since for each in overlay.withdrawn}
    kept = {each.name for each in sets}
    dropped = [each for each in overlay.route_sets or () if each.name not in kept]
    if not dropped and not since:
        return ()
    unconfirmed = {each.static_route for each in view.find_removals(dropped)}
    lost = (view.find_static_routes(dropped) | unconfirmed | since.keys()) - view.find_static_routes(sets)
    return tuple(Withdrawal(name, since.get(name) or view.now) for name in sorted(lost) if name)


def plan_withdrawn_condition(view: NodeView, overlay: NodeOverlay) -> NodePlan:
    """Plan the condition RoutesWithdrawn=False and an event while the agent does not confirm; else an empty plan."""
    withdrawn = () if overlay.is_current else overlay.withdrawn
    removals = view.find_removals(overlay.route_sets or ())
    before = overlay.assignment.withdrawn
    if not withdrawn and not removals:
        return (
            NodePlan() if before is None else NodePlan((ApplyAssignment(replace(overlay.assignment, withdrawn=None)),))
        )
    waited = max((each.waited for each in removals), default=timedelta())
    if withdrawn:
        began = min((each.since for each in withdrawn if each.since), default=None)
        waited = max(waited, view.elapsed("Withdrawn", (overlay.uid, began)))
    if waited < CONFIRMATION_TIMEOUT:
        return NodePlan((), CONFIRMATION_TIMEOUT - waited)
    names = {each.static_route for each in withdrawn} | {each.static_route for each in removals}
    desired = Condition(ROUTES_WITHDRAWN, False, "WaitingForAgent", _message(overlay.name, names))
    condition = transition((before,) if before else (), desired, view.now)
    if condition == before:
        return NodePlan()
    apply = ApplyAssignment(replace(overlay.assignment, withdrawn=condition))
    return NodePlan((apply, Announce("RoutesNotConfirmedGone", condition.message, warning=True)))


def _message(node: str, static_routes: Iterable[str]) -> str:
    names = name_some(sorted(static_routes), MAX_NAMES)
    return (
        f"node {node} may still have routes of {names} that it must not have any more: its agent has not "
        f"confirmed their removal"
    )
