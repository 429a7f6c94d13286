"""Which StaticRoutes stay in spec.withdrawn, and when an agent that does not confirm is reported."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from overlay_net.controller.caches import Caches
from overlay_net.domain.allocation.withdrawn_routes import (
    CONFIRMATION_TIMEOUT,
    find_withdrawals,
    plan_withdrawn_condition,
)
from overlay_net.model.api import Listing
from overlay_net.model.node_actions import Announce, ApplyAssignment, NodePlan, NodeRoutes, NodeView, Removal
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_slice import NamedSet
from tests.unit.factories import node, overlay

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = "2026-01-01T11:00:00Z"
STATIC_ROUTES = {"rs-a": {"a"}, "rs-b": {"b"}, "rs-both": {"a", "b"}}
"""The StaticRoutes of each set."""


def having(*sets: str, withdrawn: Any = (), generation: int = 3, observed: int = 3) -> NodeOverlay:
    gone = [{"staticRoute": name, "since": EARLIER} for name in withdrawn]
    spec = {"routeSets": [{"name": each} for each in sets], "withdrawn": gone}
    return overlay(spec=spec, generation=generation, status={"observedGeneration": observed})


def view(present: NodeOverlay, removals: dict[str, list[Removal]] | None = None, **facts: Any) -> NodeView:
    """``removals`` are those that the agent has not confirmed, by set."""
    return NodeView(
        present.name,
        node(),
        present,
        NodeRoutes,
        (),
        NOW,
        find_static_routes=lambda sets: {name for each in sets for name in STATIC_ROUTES[each.name]},
        find_removals=lambda sets: [removal for each in sets for removal in (removals or {}).get(each.name, ())],
        **facts,
    )


def named(before: NodeOverlay, *sets: str, removals: dict[str, list[Removal]] | None = None) -> dict[str, str]:
    found = find_withdrawals(view(before, removals), before, [NamedSet(each) for each in sets])
    return {each.static_route: str(each.since) for each in found}


def plan_after(waited: timedelta, present: NodeOverlay) -> NodePlan:
    """The plan of a controller that has observed the withdrawal for this time."""
    return plan_withdrawn_condition(view(present, elapsed=lambda _, __: waited), present)


def test_static_routes_of_a_set_that_a_node_loses_are_listed_until_the_agent_confirms() -> None:
    now, earlier = str(NOW), str(NOW - timedelta(hours=1))
    assert named(having("rs-a", "rs-b"), "rs-a", "rs-b") == {}
    assert named(having("rs-a", "rs-b"), "rs-a") == {"b": now}
    assert named(having("rs-a", "rs-b"), "rs-both") == {}, "they are in another set"
    silent = having("rs-a", withdrawn=["b"], observed=2)
    assert named(silent, "rs-a") == {"b": earlier}, "another change in between"
    assert named(silent) == {"a": now, "b": earlier}
    assert named(silent, "rs-a", "rs-b") == {}, "the routes apply again"
    assert named(having("rs-a", withdrawn=["b"]), "rs-a") == {}, "confirmed"


def test_what_the_agent_has_not_confirmed_of_a_lost_set_is_listed_too() -> None:
    removed = {"rs-a": [Removal("c", timedelta(seconds=2))]}
    assert named(having("rs-a", "rs-b"), "rs-b", removals=removed) == {"a": str(NOW), "c": str(NOW)}
    assert named(having("rs-a", "rs-b"), "rs-a", removals=removed) == {"b": str(NOW)}, "the slice still lists it"


def test_an_agent_that_does_not_confirm_is_reported_once_after_the_timeout() -> None:
    silent = having("rs-a", withdrawn=["b"], observed=2)
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
    assert not plan_after(CONFIRMATION_TIMEOUT, having("rs-a", withdrawn=["b"])).actions


def test_a_removal_from_a_slice_is_reported_after_the_same_time() -> None:
    present = having("rs-a")
    young = {"rs-a": [Removal("c", timedelta(seconds=5))]}
    assert plan_withdrawn_condition(view(present, young), present) == NodePlan((), timedelta(seconds=10))
    old = {"rs-a": [Removal("c", CONFIRMATION_TIMEOUT), Removal("d", timedelta())]}
    (apply, _) = plan_withdrawn_condition(view(present, old), present).actions
    assert isinstance(apply, ApplyAssignment)
    assert apply.assignment.withdrawn is not None
    assert "routes of c, d " in apply.assignment.withdrawn.message


def test_the_condition_belongs_to_the_assignment_and_not_to_the_report() -> None:
    (apply, _) = plan_after(CONFIRMATION_TIMEOUT, having("rs-a", withdrawn=["b"], observed=2)).actions
    assert isinstance(apply, ApplyAssignment)
    read = overlay(status=apply.assignment.to_json())
    assert read.assignment.withdrawn == apply.assignment.withdrawn
    assert read.report.conditions == ()


# --- Removals from slices --------------------------------------------------------------------------------------------


def slice_without(static_route: str, generation: int, *present: str) -> Any:
    entries = [{"name": name, "subnets": ["10.1.0.0/16"]} for name in present]
    gone = [{"staticRoute": static_route, "since": EARLIER, "sliceGeneration": generation}]
    spec = {"routeSet": "rs-1", "slices": [0], "staticRoutes": entries, "withdrawn": gone}
    metadata = {"name": "rs-1-0", "resourceVersion": str(generation)}
    return {"metadata": metadata, "spec": spec | {"generation": generation}}


def with_slice(observed: dict[str, int] | None, **spec: Any) -> NodeOverlay:
    status = {"observedGeneration": 1} | ({"observedSlices": observed} if observed is not None else {})
    return overlay(spec={"routeSets": [{"name": "rs-1"}], **spec}, status=status)


async def removals(present: NodeOverlay, *entries: str) -> list[str]:
    caches = Caches()
    caches.slices.replace(Listing((slice_without("gone", 4, *entries),), "1"))
    found = caches.slice_reports.find_removals(present, present.route_sets or ())
    return [each.static_route for each in found]


async def test_a_removal_counts_until_the_agent_has_observed_that_generation_of_the_slice() -> None:
    assert await removals(with_slice({"rs-1-0": 3})) == ["gone"]
    assert await removals(with_slice({"rs-1-0": 4})) == []
    assert await removals(with_slice({})) == [], "it has had nothing of the slice"
    assert await removals(with_slice({"rs-1-0": 3}), "gone") == [], "the StaticRoute is there again"


async def test_an_agent_of_an_earlier_version_may_have_only_the_routes_of_the_object() -> None:
    routes = [{"subnet": "10.1.0.0/16", "staticRoute": "gone"}]
    assert await removals(with_slice(None, routes=routes)) == ["gone"]
    assert await removals(with_slice(None, routes=[])) == []
