"""The condition Ready of a StaticRoute: whether it is usable, in one condition for kubectl, kstatus and alerts."""

from typing import Any

import pytest

from overlay_net.domain.routes.protected_subnets import ProtectedSubnet, Protection
from overlay_net.domain.status.static_route_counts import STATES, StaticRouteCounts
from overlay_net.model.conditions import GATEWAY_REACHABLE, READY, Condition, find_condition, parse_conditions
from overlay_net.model.parse import parse_network
from overlay_net.model.static_route import StaticRoute
from tests.fakes.static_route_status import NOW, find_status, table
from tests.unit.factories import static_route

OVERLAY_GATEWAY = "192.168.100.1"
STANDBY = [{"address": OVERLAY_GATEWAY}, {"address": "192.168.100.254", "priority": 1}]
NOT_ON_LINK = {"subnet": "192.168.0.0/24", "state": "GatewayNotOnLink", "message": "10.9.0.1 is in no subnet"}


def reached(status: str = "True") -> list[dict[str, str]]:
    return [{"type": "GatewayReachable", "status": status, "reason": "X", "message": ""}]


def silent(*addresses: str) -> list[dict[str, str]]:
    return [{"address": each, "message": "no answer to ARP on tmp0"} for each in addresses]


def conditions(status: dict[str, Any]) -> dict[str, Condition]:
    return {each.type: each for each in parse_conditions(status)}


def ready(status: dict[str, Any]) -> tuple[bool | None, str]:
    found = conditions(status)[READY]
    return found.status, found.reason


def reachable(status: dict[str, Any]) -> tuple[bool | None, str]:
    found = conditions(status)[GATEWAY_REACHABLE]
    return found.status, found.reason


def protection(subnet: str) -> Protection:
    network = parse_network(subnet)
    assert network is not None
    return Protection([ProtectedSubnet(network, "address of node n9")])


REFUSED = [
    (static_route(subnet="10.1.2.3/24"), "Invalid"),
    (static_route(subnet="192.168.0.0/24"), "Protected"),
    (static_route(gateway="nonsense"), "Invalid"),
]


@pytest.mark.parametrize(("route", "reason"), REFUSED)
def test_a_refused_route_is_not_ready_for_the_reason_of_the_refusal(route: StaticRoute, reason: str) -> None:
    status = find_status(route, [table("n1", conditions=reached())], NOW, protection("192.168.0.0/25"))
    found = conditions(status)
    assert ready(status) == (False, reason)
    assert found[READY].message == found["Accepted"].message != ""
    assert reachable(status) == (None, "NotProbed"), "no gateway of it was probed"
    assert {each.observed_generation for each in found.values()} == {status["observedGeneration"]} == {route.generation}


def test_a_route_in_conflict_is_not_ready_because_of_the_conflict() -> None:
    old = static_route("old", gateway="10.0.0.1", created="2025-01-01T00:00:00Z")
    new = static_route("new", gateway="10.0.0.2")
    status = find_status(new, [table("n1", old, new, conditions=reached())])
    assert ready(status) == (False, "Conflict")
    assert reachable(status) == (None, "NotProbed")


def test_a_route_in_place_with_reachable_gateways_is_ready() -> None:
    route = static_route()
    status = find_status(route, [table("n1", route, conditions=reached())])
    assert (ready(status), reachable(status)) == ((True, "Ready"), (True, "Reachable"))


def test_a_route_that_is_not_in_place_is_not_ready_for_the_reason_of_programmed() -> None:
    route = static_route()
    failing = table("n1", route, failures=[NOT_ON_LINK], conditions=reached())
    for tables, reason in (
        ([failing], "Failing"),
        ([table("n1", route, behind=True)], "Pending"),
        ([], "NoNodes"),
    ):
        status = find_status(route, tables)
        assert ready(status) == (False, reason)
        assert reachable(status) == (None, "NotProbed"), reason
        assert conditions(status)[READY].message == conditions(status)["Programmed"].message


@pytest.mark.parametrize(
    ("down", "expected", "gateways"),
    [
        ((), (True, "Ready"), (True, "Reachable")),
        ((OVERLAY_GATEWAY,), (True, "Ready"), (False, "GatewayDown")),
        (("192.168.100.254",), (True, "Ready"), (False, "GatewayDown")),
        ((OVERLAY_GATEWAY, "192.168.100.254"), (False, "GatewayDown"), (False, "GatewayDown")),
    ],
)
def test_a_route_is_ready_while_each_node_has_a_gateway_that_answers(
    down: tuple[str, ...], expected: tuple[bool, str], gateways: tuple[bool, str]
) -> None:
    route = static_route(gateways=STANDBY)
    tables = [
        table("n1", route, conditions=reached()),
        table("n2", route, conditions=reached(str(not down)), gateways=silent(*down)),
    ]
    status = find_status(route, tables)
    assert (ready(status), reachable(status)) == (expected, gateways)
    if expected[1] == "GatewayDown":
        assert "n2" in conditions(status)[READY].message


def test_gateways_that_are_down_on_different_nodes_leave_a_gateway_on_each() -> None:
    route = static_route(gateways=STANDBY)
    tables = [
        table(f"n{number}", route, conditions=reached("False"), gateways=silent(address))
        for number, address in enumerate((OVERLAY_GATEWAY, "192.168.100.254"))
    ]
    assert ready(find_status(route, tables)) == (True, "Ready")


def test_a_gateway_that_was_never_probed_is_neither_reachable_nor_unreachable() -> None:
    for route, tables in (
        (static_route(type="blackhole"), True),
        (static_route(healthCheck={"type": "none"}), True),
        (static_route(), False),
    ):
        present = [table("n1", route, conditions=reached() if tables else reached("Unknown"))]
        status = find_status(route, present)
        assert (ready(status), reachable(status)) == ((True, "Ready"), (None, "NotProbed"))


def test_the_gateway_of_the_node_itself_is_not_probed() -> None:
    route = static_route()
    bare = table("n1", route, conditions=reached(), spec={"routesOnly": True}, fallbackGateway="10.176.162.129")
    assert reachable(find_status(route, [bare])) == (None, "NotProbed")


def test_the_subnet_column_has_the_first_subnet_and_the_number_of_others() -> None:
    def several(*subnets: str) -> StaticRoute:
        raw = {"metadata": {"name": "r", "generation": 1}, "spec": {"subnets": list(subnets)}}
        return StaticRoute.parse(raw)

    for route, shown in (
        (static_route(), "192.168.0.0/24"),
        (several("10.1.0.0/16"), "10.1.0.0/16"),
        (several("10.2.0.0/16", "10.1.0.0/16", "10.3.0.0/16"), "10.2.0.0/16 + 2 more"),
        (several("nonsense", "10.1.0.0/16"), "nonsense + 1 more"),
        (several(), ""),
    ):
        assert find_status(route, []).get("subnet", "") == shown


def with_conditions(accepted: bool, reason: str, *, is_ready: bool = False) -> tuple[Condition, ...]:
    return (Condition("Accepted", accepted, reason), Condition(READY, is_ready, reason))


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (with_conditions(True, "Ready", is_ready=True), "ready"),
        (with_conditions(False, "Protected"), "refused"),
        (with_conditions(False, "Invalid"), "refused"),
        (with_conditions(False, "AReasonOfALaterVersion"), "refused"),
        (with_conditions(False, "Conflict"), "conflict"),
        (with_conditions(True, "RolledBack"), "rolled_back"),
        (with_conditions(True, "ProbeFailed"), "rolled_back"),
        (with_conditions(True, "RolloutStopped"), "rollout_stopped"),
        (with_conditions(True, "Failing"), "failing"),
        (with_conditions(True, "GatewayDown"), "failing"),
        (with_conditions(True, "AReasonOfALaterVersion"), "failing"),
        (with_conditions(True, "Pending"), "pending"),
        (with_conditions(True, "Probing"), "pending"),
        (with_conditions(True, "RollingOut"), "pending"),
        (with_conditions(True, "NoNodes"), "pending"),
    ],
)
def test_each_static_route_is_counted_in_one_state(found: tuple[Condition, ...], state: str) -> None:
    counts = StaticRouteCounts()
    counts.update("r1", found)
    assert {each for each, count in counts.by_state.items() if count} == {state}
    assert set(counts.by_state) == set(STATES), "a state without StaticRoutes is 0, not absent"
    counts.update("r1", None)
    assert not any(counts.by_state.values())


def test_an_unknown_condition_is_read_and_written_as_it_is() -> None:
    raw = {"type": READY, "status": "Unknown", "reason": "AgentStale", "message": "m"}
    (parsed,) = parse_conditions({"conditions": [raw]})
    assert parsed.status is None
    assert parsed.to_json() == raw
    assert find_condition([parsed], READY) == parsed
