"""The summary of `overlay-net status`: what is reported as not ready, and what is not."""

from typing import Any

import pytest

from overlay_net.domain.status.overview import NO_NODES, Finding, Overview, overview
from overlay_net.model.overlay import NodeOverlay
from tests.unit.factories import overlay, pool, static_route


def condition(kind: str, status: bool, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": "True" if status else "False", "reason": reason, "message": message}


READY = [condition("Reserved", True, "Reserved"), condition("Configured", True, "Configured")]
READY.append(condition("Ready", True, "Ready", "address and 2 routes are in place"))
FULL = condition("Reserved", False, "Exhausted", "no free address in p1")
WAITING = condition("Ready", False, "NotConfigured", "the overlay address is not in use")
DUPLICATE = condition("Configured", False, "AddressConflict", "192.168.100.4 is in use by 52:54:00:00:00:01")
CLAIMED = condition("Configured", True, "AddressClaimed", "52:54:00:00:00:01 claims it too")


TAKEN = condition("Reserved", False, "RecordTaken", "192.168.100.4 is recorded for 'printer' in the IPAM")
SILENT = condition("GatewayReachable", False, "GatewayDown", "192.168.100.1: no answer to ARP on tmp0")
FAILING = condition("Ready", False, "RoutesFailing", "1 of 2 routes are not in place")
LEFT = condition("RoutesWithdrawn", False, "WaitingForAgent", "node n1 may still have routes of r1")
STALE = {"type": "Ready", "status": "Unknown", "reason": "AgentStale", "message": "no report for 10 minutes"}
NOT_PROBED = {"type": "GatewayReachable", "status": "Unknown", "reason": "NotProbed", "message": "no gateway"}

FULL_TEXT = "no address: Exhausted: no free address in p1"
TAKEN_TEXT = "RecordTaken: 192.168.100.4 is recorded for 'printer' in the IPAM"
SILENT_TEXT = "GatewayDown: 192.168.100.1: no answer to ARP on tmp0"
NO_REPORT = "no report from its agent; is it running?"


def texts(found: Overview) -> list[tuple[str, ...]]:
    return [(each.kind, *each.names, each.message) for each in found.findings]


@pytest.mark.parametrize(
    ("address", "conditions", "generation", "messages"),
    [
        ("192.168.100.4/24", READY, 1, []),
        ("192.168.100.4/24", [*READY, NOT_PROBED], 1, []),
        ("192.168.100.4/24", READY, 0, ["its agent has not observed the latest change"]),
        ("", [FULL], 0, [FULL_TEXT, NO_REPORT]),
        ("", [], 0, [NO_REPORT]),
        ("", [FULL, WAITING], 1, [FULL_TEXT]),
        ("", [FULL, condition("Configured", False, "NoAddress", "none yet"), WAITING], 1, [FULL_TEXT]),
        (
            "192.168.100.4/24",
            [READY[0], DUPLICATE, WAITING],
            1,
            ["AddressConflict: 192.168.100.4 is in use by 52:54:00:00:00:01"],
        ),
        ("192.168.100.4/24", [READY[0], WAITING], 1, ["NotConfigured: the overlay address is not in use"]),
        (
            "192.168.100.4/24",
            [READY[0], CLAIMED, READY[2]],
            1,
            ["AddressClaimed: 52:54:00:00:00:01 claims it too"],
        ),
        # A node that is Ready.
        ("192.168.100.4/24", [TAKEN, *READY[1:]], 1, [TAKEN_TEXT]),
        ("192.168.100.4/24", [*READY, SILENT], 1, [SILENT_TEXT]),
        ("192.168.100.4/24", [*READY, condition("UpToDate", False, "PoolMissing", "no p1")], 1, ["PoolMissing: no p1"]),
        ("192.168.100.4/24", [*READY, LEFT], 1, ["WaitingForAgent: node n1 may still have routes of r1"]),
        ("192.168.100.4/24", [*READY, condition("OfALaterVersion", False, "Broken")], 1, ["Broken"]),
        # Several causes at once.
        (
            "192.168.100.4/24",
            [TAKEN, SILENT, FAILING],
            1,
            [TAKEN_TEXT, SILENT_TEXT, "RoutesFailing: 1 of 2 routes are not in place"],
        ),
        ("192.168.100.4/24", [*READY[:2], STALE], 1, ["AgentStale: no report for 10 minutes"]),
    ],
)
def test_each_condition_of_a_node_that_is_false_is_reported_whether_the_node_is_ready_or_not(
    address: str, conditions: list[dict[str, Any]], generation: int, messages: list[str]
) -> None:
    status = {"ipAddr": address, "observedGeneration": generation, "conditions": conditions}
    found = overview(["n1"], [overlay(status=status)], [], [])
    assert texts(found) == [("node", "n1", message) for message in messages]
    reported = READY[2] in conditions and generation == 1
    assert found.counts[0].startswith(f"nodes   {1 if reported or not messages else 0} of 1 ready")
    assert ("(1 with problems)" in found.counts[0]) == (reported and bool(messages))


def test_nodes_with_the_same_problem_are_reported_together() -> None:
    def reporting(name: str, *conditions: dict[str, Any]) -> NodeOverlay:
        return overlay(
            name, status={"ipAddr": "192.168.100.4/24", "observedGeneration": 1, "conditions": [*conditions]}
        )

    nodes = [
        reporting("n1", *READY, SILENT),
        reporting("n2", TAKEN, SILENT, *READY[1:]),
        reporting("n3", *READY),
        reporting("n4", *READY, SILENT),
    ]
    found = overview([each.name for each in nodes], nodes, [], [])
    assert texts(found) == [("node", "n1", "n2", "n4", SILENT_TEXT), ("node", "n2", TAKEN_TEXT)]
    assert found.counts[0] == "nodes   4 of 4 ready (3 with problems)"


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
    assert texts(found) == ([("node", "n1", message)] if message else [])


def test_nodes_without_object_and_objects_without_node_are_reported() -> None:
    found = overview(["n1"], [overlay("n2"), overlay("n3", deleting=True)], [], [])
    assert [(*each.names, each.message) for each in found.findings] == [
        ("n1", "no NodeOverlayIp yet; is the controller running?"),
        ("n2", "the Node is deleted, or no agent runs on it; its address is released after release_after"),
        ("n3", "is being deleted; not reconciled yet; is the controller running?"),
    ]
    assert found.counts[0] == "nodes   0 of 1 ready"


def test_pools_are_listed_first_and_routes_last() -> None:
    failing = [
        condition("Accepted", True, "Accepted"),
        condition("Programmed", False, "Failing", "1 of 3 nodes fail"),
        condition("Ready", False, "Failing", "1 of 3 nodes fail"),
    ]
    refused = [
        condition("Accepted", False, "Invalid", "spec.subnet is missing"),
        condition("Programmed", False, "NotAccepted", "no node gets the routes"),
        condition("Ready", False, "Invalid", "spec.subnet is missing"),
    ]
    standby = [
        condition("Accepted", True, "Accepted"),
        condition("GatewayReachable", False, "GatewayDown", "no answer from 10.0.0.1 on 1 node (n1)"),
        condition("Ready", True, "Ready"),
    ]
    unread = {"type": "Ready", "status": "Unknown", "reason": "Pending", "message": "not reconciled yet"}
    routes = [
        static_route("a", status={"conditions": failing}),
        static_route("b", status={"conditions": failing[:1]}),
        static_route("c"),
        static_route("d", status={"conditions": refused}),
        static_route("e", status={"conditions": standby}),
        static_route("f", status={"conditions": [unread]}),
    ]
    full = pool()
    status = {"used": 250, "free": 0, "conditions": [condition("Ready", False, "Exhausted", "all are in use")]}
    pools = [
        type(full).parse({"metadata": {"name": "p1"}, "status": status}),
        type(full).parse({"metadata": {"name": "p2"}, "status": {"conditions": [unread]}}),
    ]
    found = overview([], [], routes, pools)
    assert texts(found) == [
        ("pool", "p1", "Exhausted: all are in use"),
        ("pool", "p2", "Pending: not reconciled yet"),
        ("node", NO_NODES),
        ("route", "a", "Failing: 1 of 3 nodes fail"),
        ("route", "c", "f", "not reconciled yet; is the controller running?"),
        ("route", "d", "Invalid: spec.subnet is missing"),
        ("route", "e", "GatewayDown: no answer from 10.0.0.1 on 1 node (n1)"),
    ]
    assert found.counts == (
        "nodes   0 of 0 ready",
        "routes  2 of 6 in place (1 with problems)",
        "pools   0 of 2 usable, 250 addresses used, 0 free",
    )


def test_without_a_node_that_is_selected_nothing_is_healthy() -> None:
    found = overview([], [], [], [])
    (cause,) = found.causes
    assert [each.message for each in cause.findings] == [NO_NODES]
    assert cause.next_command == "kubectl get nodes --show-labels"


def test_what_has_one_cause_is_together_and_the_cause_of_most_nodes_first() -> None:
    def finding(kind: str, reason: str, *names: str, message: str = "") -> Finding:
        return Finding(kind, names, message or f"{reason} of {names[0]}", reason)

    found = Overview(
        (),
        (
            finding("node", "AddressConflict", "n1"),
            finding("node", "RoutesFailing", "n2"),
            finding("node", "RoutesFailing", "n3", "n1"),
            finding("node", "", "n4", message="no report"),
            finding("route", "Failing", "r1"),
            finding("pool", "Exhausted", "p1"),
        ),
    )
    assert [(each.kind, each.reason, each.names, each.next_command) for each in found.causes] == [
        ("pool", "Exhausted", ("p1",), "kubectl describe overlaypool p1"),
        ("node", "RoutesFailing", ("n2", "n3", "n1"), "overlay-net routes n2"),
        ("node", "AddressConflict", ("n1",), "overlay-net doctor n1"),
        ("node", "", ("n4",), "overlay-net doctor n4"),
        ("route", "Failing", ("r1",), "kubectl describe staticroute r1"),
    ]
