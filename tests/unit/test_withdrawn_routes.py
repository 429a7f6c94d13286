"""Which StaticRoutes stay in spec.withdrawn, and when an agent that does not confirm is reported."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from overlay_net.domain.allocation.withdrawn_routes import (
    CONFIRMATION_TIMEOUT,
    find_withdrawals,
    plan_withdrawn_condition,
)
from overlay_net.model.node_actions import Announce, ApplyAssignment, NodePlan, NodeRoutes, NodeView
from overlay_net.model.overlay import NodeOverlay
from tests.unit.factories import node, overlay

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = "2026-01-01T11:00:00Z"


def having(*owners: str, withdrawn: Any = (), generation: int = 3, observed: int = 3) -> NodeOverlay:
    routes = [{"subnet": f"10.{place}.0.0/16", "staticRoute": owner} for place, owner in enumerate(owners)]
    gone = [{"staticRoute": name, "since": EARLIER} for name in withdrawn]
    spec = {"routes": routes, "withdrawn": gone}
    return overlay(spec=spec, generation=generation, status={"observedGeneration": observed})


def named(before: NodeOverlay, *owners: str) -> dict[str, str]:
    return {each.static_route: str(each.since) for each in find_withdrawals(before, having(*owners).routes, NOW)}


def plan_after(waited: timedelta, overlay: NodeOverlay) -> NodePlan:
    """The plan of a controller that has observed the withdrawal for this time."""
    view = NodeView(overlay.name, node(), overlay, NodeRoutes, (), NOW, elapsed=lambda _, __: waited)
    return plan_withdrawn_condition(view, overlay)


def test_a_removed_static_route_is_listed_until_the_agent_confirms() -> None:
    now, earlier = str(NOW), str(NOW - timedelta(hours=1))
    assert named(having("a", "b"), "a", "b") == {}
    assert named(having("a", "b"), "a") == {"b": now}
    silent = having("a", withdrawn=["b"], observed=2)
    assert named(silent, "a", "c") == {"b": earlier}, "another change in between"
    assert named(silent) == {"a": now, "b": earlier}
    assert named(silent, "a", "b") == {}, "the route applies again"
    assert named(having("a", withdrawn=["b"]), "a", "c") == {}, "confirmed"


def test_an_agent_that_does_not_confirm_is_reported_once_after_the_timeout() -> None:
    silent = having("a", withdrawn=["b"], observed=2)
    early = plan_after(timedelta(seconds=5), silent)
    assert (early.actions, early.requeue_after) == ((), CONFIRMATION_TIMEOUT - timedelta(seconds=5))
    late = plan_after(CONFIRMATION_TIMEOUT, silent)
    apply, event = late.actions
    assert isinstance(apply, ApplyAssignment)
    assert isinstance(event, Announce)
    condition = apply.assignment.withdrawn
    assert condition is not None
    assert (condition.status, condition.reason) == (False, "WaitingForAgent")
    for part in ("node n1", "routes of b"):
        assert part in condition.message
        assert part in event.message
    reported = replace(silent, assignment=apply.assignment)
    assert not plan_after(timedelta(hours=1), reported).actions
    confirmed = replace(reported, report=replace(reported.report, observed_generation=3))
    (cleared,) = plan_after(CONFIRMATION_TIMEOUT, confirmed).actions
    assert isinstance(cleared, ApplyAssignment)
    assert cleared.assignment.withdrawn is None
    assert not plan_after(CONFIRMATION_TIMEOUT, having("a", withdrawn=["b"])).actions


def test_the_condition_belongs_to_the_assignment_and_not_to_the_report() -> None:
    (apply, _) = plan_after(CONFIRMATION_TIMEOUT, having("a", withdrawn=["b"], observed=2)).actions
    assert isinstance(apply, ApplyAssignment)
    read = overlay(status=apply.assignment.to_json())
    assert read.assignment.withdrawn == apply.assignment.withdrawn
    assert read.report.conditions == ()
