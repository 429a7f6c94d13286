"""The status of a StaticRoute, from the slices that nodes have and what their agents report."""

from typing import Any

import pytest

from overlay_net.domain.routes.route_sets import route_set_name, shared_set_name
from overlay_net.model.conditions import find_condition, parse_conditions
from overlay_net.model.static_route import digest_status
from tests.fakes.static_route_status import (
    GENERATION,
    NOW,
    ReportingNode,
    entry,
    find_status,
    make_slices,
    route_slice,
    table,
)
from tests.unit.factories import node, overlay, static_route


def condition(status: dict[str, Any], type_: str) -> tuple[str, str]:
    (found,) = [each for each in status["conditions"] if each["type"] == type_]
    return found["status"], found["reason"]


def states(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["hostname"], each["state"]) for each in status["nodeStatus"]]


def counts(status: dict[str, Any]) -> tuple[int, int, int]:
    return status["desired"], status["ready"], status["failed"]


FAILURE = {"subnet": "192.168.0.0/24", "state": "GatewayNotOnLink", "message": "no such subnet"}


def test_a_route_in_place_on_all_nodes_is_programmed() -> None:
    route = static_route()
    nodes = [table("n1", route), table("n2", route)]
    status = find_status(route, nodes)
    assert status["nodeStatus"] == [
        {"hostname": name, "gateway": "192.168.100.1", "device": "tmp0", "state": "Ready"} for name in ("n1", "n2")
    ]
    assert counts(status) == (2, 2, 0)
    assert condition(status, "Accepted") == ("True", "Accepted")
    assert condition(status, "Programmed") == ("True", "Programmed")
    again = find_status(static_route(status=status), nodes, NOW.replace(year=2027))
    assert again == status, "an unchanged status stays equal"
    assert digest_status(again) == static_route(status=status).status_digest


def test_a_gateway_outside_the_overlay_uses_the_parent_interface() -> None:
    route = static_route(gateway="10.176.162.129")
    assert find_status(route, [table("n1", route)])["nodeStatus"][0]["device"] == "eth0"


def test_failing_nodes_are_listed_first_with_their_cause() -> None:
    route = static_route()
    nodes = [table("n1", route), table("n2", route, failures=[FAILURE]), table("n3", route, behind=True)]
    status = find_status(route, nodes)
    assert states(status) == [("n2", "Failed"), ("n3", "Pending"), ("n1", "Ready")]
    assert "no such subnet" in status["nodeStatus"][0]["message"]
    assert counts(status) == (3, 1, 1)
    assert condition(status, "Programmed") == ("False", "Failing")


def test_a_failure_that_the_agent_reported_before_a_change_does_not_count_any_more() -> None:
    route = static_route()
    status = find_status(route, [table("n1", route, failures=[FAILURE], behind=True)])
    assert states(status) == [("n1", "Pending")]


def test_a_change_of_another_static_route_in_the_slice_changes_nothing() -> None:
    route, other = static_route(), static_route("other", "10.7.0.0/16")
    changed = route_slice(route_set_name(route), entry(route, slice_generation=1), entry(other))
    nodes = [table("n1", route, other, behind=True)]
    assert counts(find_status(route, nodes, slices=[changed])) == (1, 1, 0)
    assert counts(find_status(other, nodes, slices=[changed])) == (1, 0, 0)


def test_a_static_route_that_is_in_no_slice_yet_is_pending() -> None:
    route = static_route(generation=2)
    earlier = route_slice(route_set_name(route), entry(static_route()))
    for slices in ([], [earlier]):
        status = find_status(route, [table("n1", route)], slices=slices)
        assert status["nodeStatus"][0]["message"] == "not in a route slice yet"
        assert condition(status, "Programmed") == ("False", "Pending")


def test_a_node_that_does_not_name_the_set_yet_is_pending() -> None:
    route = static_route()
    status = find_status(route, [table("n1", route), table("n2")])
    assert states(status) == [("n2", "Pending"), ("n1", "Ready")]
    assert status["nodeStatus"][0]["message"] == "not in the NodeOverlayIp yet"


def test_a_static_route_that_moves_to_another_slice_stays_in_place() -> None:
    route = static_route()
    name = route_set_name(route)
    moving = [route_slice(name, entry(route), slices=(0, 1)), route_slice(name, entry(route), index=1)]
    for observed in ({f"{name}-0": GENERATION}, {f"{name}-1": GENERATION}):
        moved = table("n1", route, observedSlices=observed)
        assert counts(find_status(route, [moved], slices=moving)) == (1, 1, 0)
    lost = table("n1", route, observedSlices={f"{name}-0": 1})
    assert counts(find_status(route, [lost], slices=moving)) == (1, 0, 0)


def test_the_slice_that_an_agent_lacks_is_named() -> None:
    route = static_route()
    unknown = {"type": "RouteSetsKnown", "status": "False", "reason": "SliceMissing", "message": "rs-1-0 is missing"}
    status = find_status(route, [table("n1", route, observedSlices={}, conditions=[unknown])])
    assert status["nodeStatus"][0]["message"] == "rs-1-0 is missing"


def test_a_node_with_more_failures_than_it_can_list_is_not_ready() -> None:
    route = static_route()
    failures = [{"subnet": "10.0.0.0/24", "state": "KernelRefused", "message": "no"}]
    assert find_status(route, [table("n1", route, failures=failures, failed=2)])["ready"] == 0
    assert find_status(route, [table("n1", route, failures=failures, failed=1)])["ready"] == 1


def test_a_conflict_is_reported_on_the_younger_object_only() -> None:
    old = static_route("old", gateway="10.0.0.1", created="2025-01-01T00:00:00Z")
    new = static_route("new", gateway="10.0.0.2")
    both = [table("n1", old, new)]
    lost = find_status(new, both)
    assert condition(lost, "Accepted") == ("False", "Conflict")
    assert lost["nodeStatus"][0]["message"] == "192.168.0.0/24 is already routed by the older StaticRoute old"
    assert condition(find_status(old, both), "Programmed") == ("True", "Programmed")


def test_a_conflict_is_reported_on_the_nodes_that_both_select() -> None:
    old = static_route(
        "old", gateway="10.0.0.1", created="2025-01-01T00:00:00Z", nodeSelector={"matchLabels": {"a": "b"}}
    )
    new = static_route("new", gateway="10.0.0.2")
    status = find_status(new, [table("n1", old, new), table("n2", new)])
    assert states(status) == [("n1", "Failed"), ("n2", "Ready")]
    assert condition(status, "Accepted") == ("False", "Conflict")


def test_the_overlay_gateway_given_by_name_is_no_conflict_with_the_default_one() -> None:
    old = static_route("old", gateway="192.168.100.1", created="2025-01-01T00:00:00Z")
    new = static_route("new")
    status = find_status(new, [table("n1", old, new), table("n2", old, new, gateway="192.168.200.1")])
    assert states(status) == [("n2", "Failed"), ("n1", "Ready")]


def test_ipv6_routes_without_metric_and_with_the_kernels_default_are_the_same_route() -> None:
    older = static_route("older", "2001:db8::/32", gateway="fd00::1")
    younger = static_route("younger", "2001:db8::/32", gateway="fd00::2", metric=1024, created="2026-01-02T00:00:00Z")
    assert condition(find_status(younger, [table("n1", older, younger)]), "Accepted") == ("False", "Conflict")


def test_identical_routes_share_an_entry_and_fail_together() -> None:
    old, new = static_route("old", created="2025-01-01T00:00:00Z"), static_route("new")
    assert find_status(new, [table("n1", old, new)])["ready"] == 1
    assert counts(find_status(new, [table("n1", old, new, failures=[FAILURE | {"staticRoute": "old"}])])) == (1, 0, 1)


def test_an_invalid_spec_and_a_selector_without_nodes_are_reported() -> None:
    status = find_status(static_route(subnet="10.1.2.3/24"), [])
    assert condition(status, "Accepted") == ("False", "Invalid")
    assert condition(find_status(static_route(), []), "Programmed") == ("False", "NoNodes")


@pytest.mark.parametrize("limit", [1, 250])
def test_the_node_list_is_limited_and_the_counts_cover_all_nodes(limit: int) -> None:
    route = static_route()
    nodes = [table(f"n{number:04}", route, behind=number > 1100) for number in range(1200)]
    status = find_status(route, nodes, limit=limit)
    assert states(status)[:2] == [("n1101", "Pending"), ("n1102", "Pending")][:limit]
    assert len(status["nodeStatus"]) == limit
    assert counts(status) == (1200, 1101, 0)
    programmed = find_condition(parse_conditions(status), "Programmed")
    assert programmed is not None
    assert programmed.message == "in place on 1101 of 1200 nodes; n1101: the agent has not reported yet"


# --- Refused ---------------------------------------------------------------------------------------------------------


class Refused:
    def refusal(self, _: object) -> tuple[str, str]:
        return "Protected", "192.168.0.0/24 overlaps 192.168.0.0/25"


def named_since(name: str, *routes: Any, since: str) -> ReportingNode:
    sets = [{"name": route_set_name(each), "since": since} for each in routes]
    return table(name, *routes, spec={"routeSets": sets})


def test_nodes_that_have_had_the_route_before_it_was_refused_keep_it() -> None:
    route = static_route()
    closed = route_slice(route_set_name(route), entry(route, closed_since=NOW))
    nodes = [
        named_since("n1", route, since="2025-12-31T23:59:59Z"),
        named_since("n2", route, since="2026-01-01T00:00:01Z"),
    ]
    status = find_status(route, nodes, protection=Refused(), slices=[closed])
    assert states(status) == [("n1", "Ready")]
    accepted = find_condition(parse_conditions(status), "Accepted")
    assert accepted is not None
    assert accepted.message.endswith("nodes that already have the route keep it, others do not get it")
    assert find_status(route, nodes, protection=Refused(), slices=[])["nodeStatus"] == []


def test_a_subnet_that_a_refused_static_route_adds_is_pending() -> None:
    both = static_route(subnets=["10.7.0.0/16"])
    closed = route_slice(route_set_name(both), entry(both, closed_since=NOW, subnets=both.subnets[:1]))
    status = find_status(
        both, [named_since("n1", both, since="2025-01-01T00:00:00Z")], protection=Refused(), slices=[closed]
    )
    assert states(status) == [("n1", "Pending")]


# --- Agents of the version before slices -----------------------------------------------------------------------------


def earlier_agent(
    name: str, *, routes: list[dict[str, Any]], generation: int = 1, failures: Any = (), **status: Any
) -> ReportingNode:
    reported = {"ipAddr": "192.168.100.4/24", "gateway": "192.168.100.1", "observedGeneration": 1, **status}
    reported["routes"] = list(failures)
    sets = [{"name": shared_set_name(static_route())}]
    spec = {"routes": routes, "routeSets": sets}
    return ReportingNode(node(name), overlay(name, spec=spec, status=reported, generation=generation))


VIA_OVERLAY = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "gateways": [{"address": "192.168.100.1"}]}
VIA_ANOTHER = VIA_OVERLAY | {"gateways": [{"address": "192.168.100.9"}]}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (earlier_agent("n1", routes=[VIA_OVERLAY]), "Ready"),
        (earlier_agent("n1", routes=[VIA_ANOTHER]), "Pending"),
        (earlier_agent("n1", routes=[]), "Pending"),
        (earlier_agent("n1", routes=[VIA_OVERLAY], generation=2), "Pending"),
        (earlier_agent("n1", routes=[VIA_OVERLAY | {"staticRoute": "r0"}]), "Ready"),
        (earlier_agent("n1", routes=[VIA_ANOTHER | {"staticRoute": "r0"}]), "Failed"),
        (earlier_agent("n1", routes=[VIA_OVERLAY], failures=[FAILURE], routesFailed=1), "Failed"),
        (earlier_agent("n1", routes=[VIA_OVERLAY], routesFailed=1), "Pending"),
    ],
    ids=["as specified", "another gateway", "missing", "not observed", "shared", "conflict", "failing", "unlisted"],
)
def test_an_agent_of_the_version_before_slices_has_what_the_object_has(found: ReportingNode, state: str) -> None:
    route = static_route()
    assert states(find_status(route, [found], slices=make_slices([route]))) == [("n1", state)]
