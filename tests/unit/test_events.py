"""What people hear of an agent's report: every trouble once, its end once, and nothing of a node that just joins."""

from itertools import pairwise
from typing import Any

import pytest

from overlay_net.domain.status.events import report_events
from overlay_net.model.overlay import NodeOverlay
from tests.unit.factories import overlay

ROUTES = {"routes": [{"subnet": "192.168.0.0/24", "gateways": [{"address": "10.1.0.1"}, {"address": "10.1.0.2"}]}]}


def reported(configured: tuple[str, str, str] | None = None, **status: Any) -> NodeOverlay:
    conditions = []
    if configured is not None:
        conditions.append(dict(zip(("status", "reason", "message"), configured, strict=True)) | {"type": "Configured"})
    return overlay(spec=ROUTES, status={"conditions": conditions, **status})


def heard(before: NodeOverlay, after: NodeOverlay) -> list[tuple[str, str, str]]:
    events = report_events(before, after)
    return [("Warning" if each.warning else "Normal", each.reason, each.message) for each in events]


FINE = ("True", "Configured", "10.9.0.4/24 is on the link")
CLAIMED = ("True", "AddressClaimed", "10.9.0.4/24 is on the link and defended; 52:54:00:00:00:09 claims it too")
DUPLICATE = ("False", "AddressConflict", "10.9.0.4 is in use by 52:54:00:00:00:09 and was not set")
WAITING = ("False", "Pending", "10.9.0.4/24 is not on the link yet")
NONE_YET = ("False", "NoAddress", "no overlay address is assigned yet")
PARENT = ("False", "ParentMissing", "no interface eth0")


def test_a_node_that_joins_without_trouble_is_no_news() -> None:
    steps = [reported(), reported(NONE_YET), reported(WAITING), reported(FINE, routesReady=1), reported(FINE)]
    assert [heard(before, after) for before, after in pairwise(steps)] == [[]] * 4


@pytest.mark.parametrize("trouble", [CLAIMED, DUPLICATE, PARENT])
@pytest.mark.parametrize("before", [None, WAITING, FINE])
def test_trouble_with_the_address_is_told_once(
    before: tuple[str, str, str] | None, trouble: tuple[str, str, str]
) -> None:
    assert heard(reported(before), reported(trouble)) == [("Warning", trouble[1], trouble[2])]
    assert heard(reported(trouble), reported(trouble, observedGeneration=2)) == []


def test_and_its_end_too() -> None:
    over = "10.9.0.4/24 is on the link; over: no interface eth0"
    assert heard(reported(PARENT), reported(FINE)) == [("Normal", "Configured", over)]
    assert heard(reported(CLAIMED), reported(WAITING)) == [], "on its way"


def test_another_host_that_claims_the_address_is_another_trouble() -> None:
    other = (CLAIMED[0], CLAIMED[1], CLAIMED[2].replace(":09", ":10"))
    assert heard(reported(CLAIMED), reported(other)) == [("Warning", *other[1:])]


def silent(*addresses: str) -> list[dict[str, str]]:
    return [{"address": address, "message": "no answer to ARP on tmp0"} for address in addresses]


def test_gateways_are_told_when_they_change_and_then_only() -> None:
    well, one, both = (reported(FINE, gateways=silent(*each)) for each in ((), ("10.1.0.1",), ("10.1.0.1", "10.1.0.2")))
    assert heard(well, one) == [("Warning", "GatewayDown", "10.1.0.1: no answer to ARP on tmp0")]
    assert heard(one, reported(FINE, gateways=silent("10.1.0.1"), observedGeneration=5)) == []
    assert heard(one, both) == [("Warning", "GatewayDown", "10.1.0.2: no answer to ARP on tmp0")]
    assert heard(both, well) == [("Normal", "GatewayUp", "10.1.0.1, 10.1.0.2 answers again")]


def test_a_gateway_that_no_route_has_any_more_does_not_answer_again() -> None:
    assert heard(reported(FINE, gateways=silent("10.7.0.1")), reported(FINE)) == []


def failing(*subnets: str, state: str = "ForeignRoute") -> dict[str, Any]:
    routes = [{"subnet": subnet, "state": state, "message": "somebody else has it"} for subnet in subnets]
    return {"routes": routes, "routesFailed": len(subnets), "routesDesired": 6}


def test_routes_are_told_when_they_fail_and_when_none_does_any_more() -> None:
    fails = reported(FINE, **failing("10.5.0.0/16"))
    assert heard(reported(FINE), fails) == [("Warning", "RoutesFailing", "10.5.0.0/16: somebody else has it")]
    more = reported(FINE, **failing("10.5.0.0/16", "10.6.0.0/16"))
    assert heard(fails, more) == [("Warning", "RoutesFailing", "10.6.0.0/16: somebody else has it")]
    assert heard(more, fails) == []
    assert heard(fails, reported(FINE, **failing())) == [("Normal", "RoutesInPlace", "6 routes are in place")]


def test_routes_that_are_on_their_way_are_no_news() -> None:
    assert heard(reported(FINE), reported(FINE, **failing("10.5.0.0/16", state="Pending"))) == []


def test_many_routes_are_one_event() -> None:
    ((_, _, message),) = heard(reported(FINE), reported(FINE, **failing(*(f"10.{n}.0.0/16" for n in range(200)))))
    assert message.endswith("; and 197 more")


def test_an_object_that_goes_or_that_is_another_one_says_nothing() -> None:
    gone = overlay(status={"gateways": silent("10.1.0.1")}, deleting=True)
    assert heard(reported(FINE), gone) == []
    other = overlay("n2", status={"gateways": silent("10.1.0.1")})
    assert heard(reported(FINE), other) == []
