"""The summary of `overlay-net status`: what is reported as not ready, and what is not."""

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
    ("conditions", "generation", "message"),
    [
        (READY, 1, ""),
        (READY, 0, "its agent has not observed the latest change"),
        ([FULL], 0, "no address: Exhausted: no free address in p1; no report from its agent; is it running?"),
        ([], 0, "no report from its agent; is it running?"),
        ([FULL, WAITING], 1, "no address: Exhausted: no free address in p1"),
        ([READY[0], DUPLICATE, WAITING], 1, "AddressConflict: 192.168.100.4 is in use by 52:54:00:00:00:01"),
        ([READY[0], WAITING], 1, "NotConfigured: the overlay address is not in use"),
        ([READY[0], CLAIMED, READY[2]], 1, "AddressClaimed: 52:54:00:00:00:01 claims it too"),
    ],
)
def test_a_node_is_reported_with_its_cause_only_if_it_is_not_ready(
    conditions: list[dict[str, Any]], generation: int, message: str
) -> None:
    status = {"ipAddr": "192.168.100.4/24", "observedGeneration": generation, "conditions": conditions}
    found = overview(["n1"], [overlay(status=status)], [], [])
    assert found.findings == ((Finding("node", "n1", message),) if message else ())
    assert found.counts[0] == f"nodes   {0 if message else 1} of 1 ready"


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([], "no report from its agent; is it running?"),
        ([condition("Ready", False, "RoutesFailing", "1 of 2 routes")], "RoutesFailing: 1 of 2 routes"),
        ([READY[2]], ""),
    ],
)
def test_a_routes_only_node_is_not_reported_as_lacking_an_address(
    conditions: list[dict[str, Any]], message: str
) -> None:
    conditions = [condition("Reserved", False, "RoutesOnly", "switched off"), *conditions]
    routes_only = overlay(spec={"routesOnly": True}, status={"observedGeneration": 1, "conditions": conditions})
    found = overview(["n1"], [routes_only], [], [])
    assert found.findings == ((Finding("node", "n1", message),) if message else ())


def test_nodes_without_object_and_objects_without_node_are_reported() -> None:
    found = overview(["n1"], [overlay("n2"), overlay("n3", deleting=True)], [], [])
    assert [(each.name, each.message) for each in found.findings] == [
        ("n1", "no NodeOverlayIp yet; is the controller running?"),
        ("n2", "the Node is deleted, or no agent runs on it; its address is released after release_after"),
        ("n3", "is being deleted; not reconciled yet; is the controller running?"),
    ]
    assert found.counts[0] == "nodes   0 of 1 ready"


def test_pools_are_listed_first_and_routes_last() -> None:
    failing = [condition("Accepted", True, "Accepted"), condition("Programmed", False, "Failing", "1 of 3 nodes fail")]
    routes = [
        static_route("a", status={"conditions": failing}),
        static_route("b", status={"conditions": failing[:1]}),
        static_route("c"),
    ]
    full = pool()
    status = {"used": 250, "free": 0, "conditions": [condition("Ready", False, "Exhausted", "all are in use")]}
    found = overview([], [], routes, [type(full).parse({"metadata": {"name": "p1"}, "status": status})])
    assert [(each.kind, each.name, each.message) for each in found.findings] == [
        ("pool", "p1", "Exhausted: all are in use"),
        ("route", "a", "Failing: 1 of 3 nodes fail"),
        ("route", "c", "not reconciled yet; is the controller running?"),
    ]
    assert found.counts == (
        "nodes   0 of 0 ready",
        "routes  1 of 3 in place",
        "pools   0 of 1 usable, 250 addresses used, 0 free",
    )
