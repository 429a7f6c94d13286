"""When the spec of a NodeOverlayIp is written, and which route sets it names."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from overlay_net.domain.allocation.node_plan import NEXT_LOOKUP, plan_node
from overlay_net.domain.allocation.omitted_routes import plan_accepted_condition
from overlay_net.model.node import Node
from overlay_net.model.node_actions import (
    ApplyAssignment,
    ApplyOverlay,
    EarlierRoutes,
    FindReservations,
    NodePlan,
    NodeRoutes,
    NodeView,
    RemoveTaint,
)
from overlay_net.model.route_slice import NamedSet
from tests.fakes.cluster import POLICY
from tests.unit.factories import node, overlay, pool, raw_node

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETS = (NamedSet("rs-1", NOW),)
NODE_INSTANCE: dict[str, str] = {"uid": "uid-1", "bootID": ""}


def settled_view(spec: dict[str, Any], routes: NodeRoutes, **facts: Any) -> NodeView:
    """A node in place with this spec, whose routes are looked up as ``routes``."""
    conditions = [{"type": each, "status": "True", "reason": each} for each in ("Reserved", "Ready")]
    status: dict[str, Any] = {"conditions": conditions, "observedGeneration": 1, "nodeUID": "uid-1"}
    status |= {"ipAddr": "192.168.100.2/24", "gateway": "192.168.100.1", "pool": "p1"}
    present = overlay(spec={"node": NODE_INSTANCE, **spec}, status=status)
    return replace(NodeView("n1", node(), present, lambda: routes, (pool(),), NOW), **facts)


def planned(spec: dict[str, Any], routes: NodeRoutes, **facts: Any) -> NodePlan:
    return plan_node(settled_view(spec, routes, **facts), POLICY)


REGISTERED = Node.parse(raw_node() | {"status": {"addresses": [{"type": "InternalIP", "address": "10.176.162.151"}]}})


def test_the_object_of_a_node_is_created_with_its_route_sets() -> None:
    joining = settled_view({}, NodeRoutes(SETS), overlay=None, node=REGISTERED)
    (created,) = plan_node(joining, POLICY).actions
    assert isinstance(created, ApplyOverlay)
    assert (created.route_sets, created.routes_only) == (SETS, False)
    (created,) = plan_node(joining, replace(POLICY, overlay_addresses=False)).actions
    assert isinstance(created, ApplyOverlay)
    assert created.routes_only


def test_a_node_without_known_addresses_gets_its_sets_later() -> None:
    """They may be in a routed subnet, and what a node has is not taken from it."""
    joining = settled_view({}, NodeRoutes(SETS), overlay=None)
    (created,) = plan_node(joining, POLICY).actions
    assert isinstance(created, ApplyOverlay)
    assert created.route_sets is None
    waiting = replace(joining, overlay=overlay(spec={"node": NODE_INSTANCE}))
    assert plan_node(waiting, POLICY).actions == (FindReservations(),), "first its overlay address"
    known = replace(waiting, node=REGISTERED)
    assert [type(each) for each in plan_node(known, POLICY).actions] == [ApplyOverlay, FindReservations]


def test_the_spec_is_written_only_if_its_sets_change() -> None:
    named = [each.to_json() for each in SETS]
    assert planned({"routeSets": named}, NodeRoutes(SETS)).actions == ()
    (applied,) = planned({"routeSets": []}, NodeRoutes(SETS)).actions
    assert isinstance(applied, ApplyOverlay)
    assert applied.route_sets == SETS
    (applied,) = planned({"routeSets": named}, NodeRoutes(())).actions
    assert isinstance(applied, ApplyOverlay)
    assert applied.route_sets == ()


def test_a_node_keeps_its_sets_while_they_are_unknown_and_is_looked_at_again() -> None:
    named = [each.to_json() for each in SETS]
    kept = planned({"routeSets": named}, NodeRoutes(None, complete=False))
    assert (kept.actions, kept.requeue_after) == ((), NEXT_LOOKUP)
    (applied,) = planned({"routeSets": named, "node": {"uid": "earlier"}}, NodeRoutes(None)).actions
    assert isinstance(applied, ApplyOverlay)
    assert applied.route_sets == SETS, "another change of the spec does not remove them"


EARLIER_ROUTES = [{"subnet": "10.1.0.0/16", "staticRoute": "r1"}]


def test_routes_of_an_earlier_version_stay_until_the_agent_has_observed_the_slices() -> None:
    earlier = {"routes": EARLIER_ROUTES, "omitted": ["r2"]}
    named = [each.to_json() for each in SETS]
    (applied,) = planned(earlier, NodeRoutes(SETS), has_observed_slices=lambda: False).actions
    assert isinstance(applied, ApplyOverlay)
    assert (applied.route_sets, applied.earlier) == (SETS, EarlierRoutes.of(overlay(spec=earlier)))
    both = {**earlier, "routeSets": named}
    assert planned(both, NodeRoutes(SETS), has_observed_slices=lambda: False).actions == ()
    (applied,) = planned(both, NodeRoutes(SETS)).actions
    assert isinstance(applied, ApplyOverlay)
    assert (applied.route_sets, applied.earlier) == (SETS, None)


def test_the_condition_about_omitted_static_routes_goes_with_them() -> None:
    refused = {"type": "RoutesAccepted", "status": "False", "reason": "TooManyRoutes"}
    present = overlay(spec={"omitted": ["r2"]}, status={"conditions": [refused]})
    assert plan_accepted_condition(present) == NodePlan()
    (applied,) = plan_accepted_condition(overlay(status={"conditions": [refused]})).actions
    assert isinstance(applied, ApplyAssignment)
    assert applied.assignment.routes_accepted is None


def test_the_startup_taint_stays_until_the_agent_has_observed_every_slice() -> None:
    policy = replace(POLICY, startup_taint="overlay/starting")
    spec = {"routeSets": [each.to_json() for each in SETS]}
    view = settled_view(spec, NodeRoutes(SETS), node=node(taints=("overlay/starting",)))
    assert plan_node(replace(view, has_observed_slices=lambda: False), policy).actions == ()
    assert plan_node(view, policy).actions == (RemoveTaint("overlay/starting"),)
