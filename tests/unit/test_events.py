"""Events for agents' reports: each problem once, its resolution once, and none while a node joins."""

from itertools import pairwise
from typing import Any

import pytest

from overlay_net.domain.status.events import report_events
from overlay_net.model.overlay import NodeOverlay
from tests.unit.factories import overlay, own_gateways

ROUTES = {"routes": [{"subnet": "192.168.0.0/24", "gateways": [{"address": "10.1.0.1"}, {"address": "10.1.0.2"}]}]}


def reported(configured: tuple[str, str, str] | None = None, **status: Any) -> NodeOverlay:
    conditions = reported_conditions(configured) if configured is not None else []
    return overlay(spec=ROUTES, status={"conditions": conditions, **status})


def reported_conditions(configured: tuple[str, str, str]) -> list[dict[str, str]]:
    return [dict(zip(("status", "reason", "message"), configured, strict=True)) | {"type": "Configured"}]


def announced(before: NodeOverlay, after: NodeOverlay) -> list[tuple[str, str, str]]:
    events = report_events(before, after, own_gateways)
    return [("Warning" if each.warning else "Normal", each.reason, each.message) for each in events]


FINE = ("True", "Configured", "10.9.0.4/24 is on the link")
CLAIMED = ("True", "AddressClaimed", "10.9.0.4/24 is on the link and defended; 52:54:00:00:00:09 claims it too")
DUPLICATE = ("False", "AddressConflict", "10.9.0.4 is in use by 52:54:00:00:00:09 and was not configured")
WAITING = ("False", "Pending", "10.9.0.4/24 is not on the link yet")
NONE_YET = ("False", "NoAddress", "no overlay address is assigned yet")
PARENT = ("False", "ParentMissing", "no interface eth0")


def test_a_node_that_joins_without_problems_causes_no_event() -> None:
    steps = [reported(), reported(NONE_YET), reported(WAITING), reported(FINE, routesReady=1), reported(FINE)]
    assert [announced(before, after) for before, after in pairwise(steps)] == [[]] * 4


@pytest.mark.parametrize("problem", [CLAIMED, DUPLICATE, PARENT])
@pytest.mark.parametrize("before", [None, WAITING, FINE])
def test_an_address_problem_is_announced_once(
    before: tuple[str, str, str] | None, problem: tuple[str, str, str]
) -> None:
    assert announced(reported(before), reported(problem)) == [("Warning", problem[1], problem[2])]
    assert announced(reported(problem), reported(problem, observedGeneration=2)) == []


def test_a_resolved_address_problem_is_announced() -> None:
    resolved = "10.9.0.4/24 is on the link; resolved: no interface eth0"
    assert announced(reported(PARENT), reported(FINE)) == [("Normal", "Configured", resolved)]
    assert announced(reported(CLAIMED), reported(WAITING)) == [], "not resolved yet"


def test_another_host_with_our_mac_is_announced_and_resolved_once() -> None:
    message = "another host has the MAC address of tmp0"
    ready = [{"type": "Ready", "status": "False", "reason": "MACConflict", "message": message}]
    conflict = overlay(spec=ROUTES, status={"conditions": [*reported_conditions(FINE), *ready]})
    assert announced(reported(FINE), conflict) == [("Warning", "MACConflict", message)]
    resolved = f"{FINE[2]}; resolved: {message}"
    assert announced(conflict, reported(FINE)) == [("Normal", "Configured", resolved)]


def test_a_claim_by_another_host_is_a_new_problem() -> None:
    other = (CLAIMED[0], CLAIMED[1], CLAIMED[2].replace(":09", ":10"))
    assert announced(reported(CLAIMED), reported(other)) == [("Warning", *other[1:])]


def silent(*addresses: str) -> list[dict[str, str]]:
    return [{"address": address, "message": "no answer to ARP on tmp0"} for address in addresses]


def test_gateways_are_announced_only_when_they_go_down_or_recover() -> None:
    fine, one, both = (reported(FINE, gateways=silent(*each)) for each in ((), ("10.1.0.1",), ("10.1.0.1", "10.1.0.2")))
    assert announced(fine, one) == [("Warning", "GatewayDown", "10.1.0.1: no answer to ARP on tmp0")]
    assert announced(one, reported(FINE, gateways=silent("10.1.0.1"), observedGeneration=5)) == []
    assert announced(one, both) == [("Warning", "GatewayDown", "10.1.0.2: no answer to ARP on tmp0")]
    assert announced(both, fine) == [("Normal", "GatewayUp", "10.1.0.1, 10.1.0.2 answer again")]


def test_a_gateway_that_no_route_uses_any_more_has_not_recovered() -> None:
    assert announced(reported(FINE, gateways=silent("10.7.0.1")), reported(FINE)) == []


def failing(*subnets: str, state: str = "ForeignRoute") -> dict[str, Any]:
    routes = [{"subnet": subnet, "state": state, "message": "another program has it"} for subnet in subnets]
    return {"routes": routes, "routesFailed": len(subnets), "routesDesired": 6}


def test_routes_are_announced_when_they_fail_and_when_all_are_in_place_again() -> None:
    fails = reported(FINE, **failing("10.5.0.0/16"))
    assert announced(reported(FINE), fails) == [("Warning", "RoutesFailing", "10.5.0.0/16: another program has it")]
    more = reported(FINE, **failing("10.5.0.0/16", "10.6.0.0/16"))
    assert announced(fails, more) == [("Warning", "RoutesFailing", "10.6.0.0/16: another program has it")]
    assert announced(more, fails) == []
    assert announced(fails, reported(FINE, **failing())) == [("Normal", "RoutesInPlace", "6 routes are in place")]


def test_pending_routes_cause_no_event() -> None:
    assert announced(reported(FINE), reported(FINE, **failing("10.5.0.0/16", state="Pending"))) == []


def test_many_failing_routes_are_one_event() -> None:
    ((_, _, message),) = announced(reported(FINE), reported(FINE, **failing(*(f"10.{n}.0.0/16" for n in range(200)))))
    assert message.endswith("; and 197 more")


def test_a_deleted_or_replaced_object_causes_no_event() -> None:
    deleted = overlay(status={"gateways": silent("10.1.0.1")}, deleting=True)
    assert announced(reported(FINE), deleted) == []
    other = overlay("n2", status={"gateways": silent("10.1.0.1")})
    assert announced(reported(FINE), other) == []
