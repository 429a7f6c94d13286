"""Decides when the agent of a node counts as silent, and sets ``Ready=Unknown`` for nodes whose state is not known.

An agent renews a Lease about once a minute. Only reads that find it unchanged count: while the API server is down,
neither can agents renew their Leases nor is it known whether they run. Wall clocks are never compared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from overlay_net.model.conditions import AGENT_STALE, READY, Condition, find_condition, transition
from overlay_net.model.node_actions import ApplyAssignment, ApplyOverlay, DeleteOverlay, NodePlan, NodeView
from overlay_net.model.overlay import NodeOverlay

WAITING_FOR_AGENT = "WaitingForAgent"


@dataclass(frozen=True, slots=True)
class Silence:
    """How long the Lease of one agent has been observed to be unchanged."""

    renewed: str
    """The renewTime as text, which is only compared for equality; empty: there is no Lease."""
    seconds: float = 0.0


def observe_leases(
    before: Mapping[str, Silence], names: Iterable[str], renewed: Mapping[str, str], elapsed: float
) -> Mapping[str, Silence]:
    """Return the silence of these nodes after a complete read of all Leases, ``elapsed`` seconds after the last one."""
    after = {}
    for name in names:
        known, text = before.get(name), renewed.get(name, "")
        same = known is not None and known.renewed == text
        after[name] = Silence(text, known.seconds + elapsed) if same and known is not None else Silence(text)
    return after


def has_reported(before: NodeOverlay | None, after: NodeOverlay) -> bool:
    """Return whether this change of the object is a report: an agent that reports is not silent."""
    return after.assignment.ready is None and (before is None or before.report != after.report)


def with_ready_unknown(view: NodeView, overlay: NodeOverlay, plan: NodePlan) -> NodePlan:
    """Add ``Ready=Unknown`` to the plan if the report does not describe the node any more.

    The agent overwrites the condition with its next report. Until then every write of the controller's part of status
    must contain it: its fields belong to the controller, and a condition without them is invalid.
    """
    unknown = _find_unknown(view, overlay)
    if unknown is None and overlay.assignment.ready is None:
        return plan
    actions = tuple(
        replace(action, assignment=replace(action.assignment, ready=unknown))
        if isinstance(action, ApplyAssignment)
        else action
        for action in plan.actions
    )
    # Other changes of the object come first, as each makes the view of the next one stale.
    alone = not any(isinstance(action, ApplyAssignment | ApplyOverlay | DeleteOverlay) for action in actions)
    if unknown != overlay.assignment.ready and alone:
        actions = (*actions, ApplyAssignment(replace(overlay.assignment, ready=unknown)))
    return replace(plan, actions=actions)


def _find_unknown(view: NodeView, overlay: NodeOverlay) -> Condition | None:
    present = overlay.assignment.ready
    reported = find_condition(overlay.report.conditions, READY)
    if view.node is None or overlay.deleting or (reported is None and present is None):
        # Without a report there is nothing to correct.
        return present
    if not overlay.reports_on(view.node):
        message = (
            "the last report is about an earlier object, Node or boot of this name; waiting for the agent on node "
            f"{view.name}"
        )
        return _unknown(view, overlay, WAITING_FOR_AGENT, message)
    if view.agent_silent_for is not None:
        seconds, lease = view.agent_silent_for.total_seconds(), overlay.report.lease
        message = f"the agent on node {view.name} has not renewed its Lease {lease} for {seconds:g} s; is it running?"
        return _unknown(view, overlay, AGENT_STALE, message)
    return present


def _unknown(view: NodeView, overlay: NodeOverlay, reason: str, message: str) -> Condition:
    before = overlay.assignment.ready or find_condition(overlay.report.conditions, READY)
    return transition((before,) if before else (), Condition(READY, None, reason, message), view.now)
