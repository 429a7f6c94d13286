"""`overlay-net plan`: what StaticRoutes would do on each node, by the rules of controller and agents."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

import pytest

from overlay_net.domain.routes.forecast import Forecast, PlannedNode, forecast
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet, Protection
from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import node, overlay, static_route

OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
PROTECTION = Protection([ProtectedSubnet(ip_network("10.96.0.0/16"), "services")])
REFUSED = {"conditions": [{"type": "Accepted", "status": "False", "reason": "Protected", "message": "it overlaps"}]}


def managed(name: str, gateway: str = "192.168.100.1", **labels: str) -> PlannedNode:
    status = {"ipAddr": "192.168.100.4/24", "gateway": gateway} if gateway else {}
    return PlannedNode(node(name, **labels), overlay(name, status=status))


NODES = [managed("n1"), managed("n2"), managed("n3", role="edge")]


def plan(*planned: StaticRoute, present: Iterable[StaticRoute] = (), nodes: Iterable[PlannedNode] = NODES) -> Forecast:
    return forecast(planned, present, nodes, PROTECTION)


def effects(found: Forecast) -> list[tuple[str, ...]]:
    return [(each.action, each.static_route, str(each.subnet), " ".join(each.nodes)) for each in found.effects]


def edge(name: str, subnet: str, **options: Any) -> StaticRoute:
    return static_route(name, subnet, nodeSelector={"matchLabels": {"role": "edge"}}, **options)


def test_a_new_route_is_added_on_the_selected_nodes() -> None:
    found = plan(static_route("a", "10.1.0.0/16"), edge("b", "10.2.0.0/16", rollout={"maxUnavailable": "10%"}))
    assert effects(found) == [("add", "a", "10.1.0.0/16", "n1 n2 n3"), ("add", "b", "10.2.0.0/16", "n3")]
    assert [str(each.address) for each in found.effects[0].spec.gateways] == ["192.168.100.1"]  # type: ignore[union-attr]
    assert found.notes == ("StaticRoute b: the change reaches at most 10% unavailable nodes at a time",)
    assert not found.has_problems


def test_an_older_static_route_wins_and_the_conflict_names_it() -> None:
    older = edge("older", "10.1.0.0/16", gateway="192.168.100.9", created=OLD)
    found = plan(static_route("a", "10.1.0.0/16", created=NEW), present=[older])
    assert effects(found) == [("conflict", "a", "10.1.0.0/16", "n3"), ("add", "a", "10.1.0.0/16", "n1 n2")]
    assert found.effects[0].message == "10.1.0.0/16 is already routed by the older StaticRoute older"
    assert found.has_problems


def test_a_change_of_an_older_static_route_that_takes_a_route_from_a_younger_one_is_a_conflict() -> None:
    younger = static_route("younger", "10.2.0.0/16", gateway="192.168.100.9", created=NEW)
    before = static_route("a", "10.1.0.0/16", created=OLD)
    after = static_route("a", "10.2.0.0/16", created=OLD, generation=2)
    found = plan(after, present=[younger, before])
    assert effects(found) == [("conflict", "a", "10.2.0.0/16", "n1 n2 n3"), ("remove", "a", "10.1.0.0/16", "n1 n2 n3")]
    assert found.effects[0].message == "the route of the younger StaticRoute younger is replaced"


def test_the_same_route_of_two_static_routes_is_no_conflict() -> None:
    older = static_route("older", "10.1.0.0/16", created=OLD)
    found = plan(static_route("a", "10.1.0.0/16", created=NEW), present=[older])
    assert effects(found) == [("share", "a", "10.1.0.0/16", "n1 n2 n3")]
    assert not found.has_problems


def test_changed_kept_and_removed_routes_of_an_existing_static_route() -> None:
    before = static_route("a", "10.1.0.0/16", subnets=["10.2.0.0/16"], created=OLD)
    after = static_route("a", "10.1.0.0/16", gateway="192.168.100.9", created=OLD, generation=2)
    assert effects(plan(after, present=[before])) == [
        ("remove", "a", "10.2.0.0/16", "n1 n2 n3"),
        ("change", "a", "10.1.0.0/16", "n1 n2 n3"),
    ]
    assert effects(plan(before, present=[before])) == [
        ("keep", "a", "10.1.0.0/16", "n1 n2 n3"),
        ("keep", "a", "10.2.0.0/16", "n1 n2 n3"),
    ]


def test_a_route_that_is_given_up_goes_to_the_static_route_that_waited_for_it() -> None:
    before = static_route("a", "10.1.0.0/16", created=OLD)
    after = static_route("a", "10.2.0.0/16", created=OLD, generation=2)
    heir = static_route("heir", "10.1.0.0/16", gateway="192.168.100.9", created=NEW)
    found = plan(after, present=[before, heir])
    assert effects(found) == [("change", "a", "10.1.0.0/16", "n1 n2 n3"), ("add", "a", "10.2.0.0/16", "n1 n2 n3")]
    assert found.effects[0].message == "StaticRoute heir has it then"


@pytest.mark.parametrize("nodes", [NODES, []])
def test_a_protected_subnet_is_refused_with_the_reason(nodes: list[PlannedNode]) -> None:
    found = plan(static_route("a", "10.96.1.0/24"), nodes=nodes)
    (effect,) = found.effects
    assert (effect.action, effect.message) == ("refuse", "Protected: 10.96.1.0/24 overlaps 10.96.0.0/16 (services)")
    assert effect.nodes == tuple(each.node.name for each in nodes)
    assert found.has_problems


def test_nodes_keep_what_they_have_of_a_static_route_that_would_be_refused() -> None:
    before = static_route("a", "10.1.0.0/16", created=OLD)
    (effect,) = plan(static_route("a", "10.96.1.0/24", created=OLD, generation=2), present=[before]).effects
    assert effect.message.endswith("; the node keeps the routes that it has of this StaticRoute")


def test_a_static_route_that_is_refused_itself_takes_no_route() -> None:
    refused = static_route("older", "10.1.0.0/16", gateway="192.168.100.9", created=OLD, status=REFUSED)
    found = plan(static_route("a", "10.1.0.0/16", created=NEW), present=[refused])
    assert effects(found) == [("add", "a", "10.1.0.0/16", "n1 n2 n3")]


def test_a_node_without_gateway_and_a_selector_without_node_are_named() -> None:
    found = plan(static_route("a", "10.1.0.0/16"), edge("b", "10.2.0.0/16"), nodes=[managed("n1", gateway="")])
    assert [each.message for each in found.effects] == ["pending until the node has an overlay gateway"]
    assert found.notes == ("StaticRoute b: no node with an agent matches the zone label and nodeSelector",)
    assert plan(static_route("a", "10.1.0.0/16"), nodes=[]).notes[-1] == "no node runs an agent"


def test_two_planned_static_routes_conflict_with_each_other() -> None:
    found = plan(
        static_route("a", "10.1.0.0/16", created=NEW), static_route("b", "10.1.0.0/16", type="blackhole", created=NEW)
    )
    assert effects(found) == [("conflict", "b", "10.1.0.0/16", "n1 n2 n3"), ("add", "a", "10.1.0.0/16", "n1 n2 n3")]
