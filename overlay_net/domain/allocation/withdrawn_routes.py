"""Routes that a node shall no longer have: who has not confirmed that they are gone.

Deleting a StaticRoute waits for nobody, so the objects of the nodes remember it: ``spec.withdrawn`` names what the last
changes took away. It is written with the routes themselves, counts only until the agent has reported on that very
spec, and is left out of the next change after that. An agent that is back removes the routes by itself; one whose node
is gone is fenced with the node's object.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from overlay_net.model.conditions import ROUTES_WITHDRAWN, Condition, transition
from overlay_net.model.kernel import DesiredRoute
from overlay_net.model.node_actions import Announce, ApplyAssignment, NodePlan
from overlay_net.model.overlay import NodeOverlay, Withdrawal

PATIENCE = timedelta(seconds=15)
"""An agent that is well confirms within a second or two; before this nothing is said, and nothing written."""


def withdrawals(overlay: NodeOverlay, routes: Iterable[DesiredRoute], now: datetime) -> tuple[Withdrawal, ...]:
    """spec.withdrawn beside ``routes``."""
    since = {} if overlay.current else {each.static_route: each.since for each in overlay.withdrawn}
    names = ({route.static_route for route in overlay.routes} | since.keys()) - {route.static_route for route in routes}
    return tuple(Withdrawal(name, since.get(name) or now.replace(microsecond=0)) for name in sorted(names) if name)


def tell_of_withdrawn(overlay: NodeOverlay, now: datetime) -> NodePlan:
    """The condition RoutesWithdrawn=False, and an event, while an agent does not confirm; nothing otherwise."""
    pending = () if overlay.current else overlay.withdrawn
    told = overlay.assignment.withdrawn
    if not pending:
        return NodePlan() if told is None else NodePlan((ApplyAssignment(replace(overlay.assignment, withdrawn=None)),))
    began = min(each.since or now for each in pending)
    if now - began < PATIENCE:
        return NodePlan((), began + PATIENCE - now)
    names = ", ".join(each.static_route for each in pending[:10])
    message = (
        f"the kernel of node {overlay.name} may still have routes of {names}"
        f"{f' and {len(pending) - 10} more' if len(pending) > 10 else ''}, which were deleted or are not for this node "
        f"any more: its agent has not confirmed since {began:%F %T} UTC"
    )
    desired = Condition(ROUTES_WITHDRAWN, False, "WaitingForAgent", message)
    condition = transition((told,) if told else (), desired, now)
    if condition == told:
        return NodePlan()
    apply = ApplyAssignment(replace(overlay.assignment, withdrawn=condition))
    return NodePlan((apply, Announce("RoutesNotConfirmedGone", message, warning=True)))
