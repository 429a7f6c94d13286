"""What the one screen says, and what it does not trouble anybody with."""

from typing import Any

import pytest

from overlay_net.domain.status.overview import Finding, overview
from tests.unit.factories import overlay, pool, static_route


def condition(kind: str, status: bool, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": "True" if status else "False", "reason": reason, "message": message}


READY = [condition("Reserved", True, "Reserved"), condition("Configured", True, "Configured")]
READY.append(condition("Ready", True, "Ready", "address and 2 routes are in place"))
FULL = condition("Reserved", False, "Exhausted", "no free address in p1")
WAITING = condition("Ready", False, "NotConfigured", "the overlay address is not in use")
DUPLICATE = condition("Configured", False, "AddressConflict", "192.168.100.4 is in use by 52:54:00:00:00:01")
CLAIMED = condition("Configured", True, "AddressClaimed", "52:54:00:00:00:01 claims it too")


@pytest.mark.parametrize(
    ("conditions", "generation", "said"),
    [
        (READY, 1, ""),
        (READY, 0, "its agent has not seen the latest change"),
        ([FULL], 0, "no address: Exhausted: no free address in p1; no agent has reported: does one run on it?"),
        ([], 0, "no agent has reported: does one run on it?"),
        ([FULL, WAITING], 1, "no address: Exhausted: no free address in p1"),
        ([READY[0], DUPLICATE, WAITING], 1, "AddressConflict: 192.168.100.4 is in use by 52:54:00:00:00:01"),
        ([READY[0], WAITING], 1, "NotConfigured: the overlay address is not in use"),
        ([READY[0], CLAIMED, READY[2]], 1, "AddressClaimed: 52:54:00:00:00:01 claims it too"),
    ],
)
def test_a_node_says_what_is_wrong_and_nothing_where_nothing_is(
    conditions: list[dict[str, Any]], generation: int, said: str
) -> None:
    status = {"ipAddr": "192.168.100.4/24", "observedGeneration": generation, "conditions": conditions}
    seen = overview(["n1"], [overlay(status=status)], [], [])
    assert seen.findings == ((Finding("node", "n1", said),) if said else ())
    assert seen.counts[0] == f"nodes   {0 if said else 1} of 1 ready"


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ([], "no agent has reported: does one run on it?"),
        ([condition("Ready", False, "RoutesFailing", "1 of 2 routes")], "RoutesFailing: 1 of 2 routes"),
        ([READY[2]], ""),
    ],
)
def test_a_node_with_routes_only_does_not_lack_an_address(conditions: list[dict[str, Any]], said: str) -> None:
    conditions = [condition("Reserved", False, "RoutesOnly", "switched off"), *conditions]
    there = overlay(spec={"routesOnly": True}, status={"observedGeneration": 1, "conditions": conditions})
    seen = overview(["n1"], [there], [], [])
    assert seen.findings == ((Finding("node", "n1", said),) if said else ())


def test_what_is_absent_is_told_on_either_side() -> None:
    seen = overview(["n1"], [overlay("n2"), overlay("n3", deleting=True)], [], [])
    assert [(each.name, each.message) for each in seen.findings] == [
        ("n1", "no NodeOverlayIp yet: does a controller run?"),
        ("n2", "its Node is gone; the address is kept for a while"),
        ("n3", "is being deleted; no controller has answered yet"),
    ]
    assert seen.counts[0] == "nodes   0 of 1 ready"


def test_pools_come_first_and_routes_last() -> None:
    failing = [condition("Accepted", True, "Accepted"), condition("Programmed", False, "Failing", "1 of 3 nodes fail")]
    routes = [
        static_route("a", status={"conditions": failing}),
        static_route("b", status={"conditions": failing[:1]}),
        static_route("c"),
    ]
    full = pool()
    looked = {"used": 250, "free": 0, "conditions": [condition("Ready", False, "Exhausted", "all are in use")]}
    seen = overview([], [], routes, [type(full).parse({"metadata": {"name": "p1"}, "status": looked})])
    assert [(each.kind, each.name, each.message) for each in seen.findings] == [
        ("pool", "p1", "Exhausted: all are in use"),
        ("route", "a", "Failing: 1 of 3 nodes fail"),
        ("route", "c", "nobody has looked at it yet: does a controller run?"),
    ]
    assert seen.counts == (
        "nodes   0 of 0 ready",
        "routes  1 of 3 in place",
        "pools   0 of 1 usable, 250 addresses used, 0 free",
    )
