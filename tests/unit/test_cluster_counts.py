"""Counts over all nodes, as metrics show them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from overlay_net.domain.status.cluster_counts import ClusterCounts
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from tests.unit.factories import overlay

EARLIER, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
ADDRESS = {"ipAddr": "192.168.100.4/24"}


def node(name: str, created: str = "2026-01-02T00:00:00Z") -> Node:
    return Node.parse({"metadata": {"name": name, "uid": name, "creationTimestamp": created}})


def count(nodes: Iterable[Node], overlays: Iterable[NodeOverlay]) -> ClusterCounts:
    by_name = {each.name: each for each in nodes}
    objects = {each.name: each for each in overlays}
    counts = ClusterCounts()
    for name in by_name.keys() | objects.keys():
        # What a node had before does not count.
        counts.update(name, node(name), overlay(name, status=ADDRESS | {"routesFailed": 7}))
        counts.update(name, by_name.get(name), objects.get(name))
    return counts


def reserved(status: str, since: str = "2026-01-01T00:00:00Z") -> dict[str, str]:
    return {"type": "Reserved", "status": status, "reason": "X", "lastTransitionTime": since}


def test_each_node_is_counted_in_exactly_one_state() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Ready"}
    counts = count(
        [node("a"), node("b"), node("c"), node("d")],
        [
            overlay("a", status=ADDRESS | {"conditions": [ready]}),
            overlay(
                "b", status=ADDRESS | {"conditions": [ready | {"status": "False"}], "conflictingIpAddr": "10.0.0.1"}
            ),
            overlay("c"),
            overlay("left", status=ADDRESS),
        ],
    )
    assert counts.nodes == {"ready": 1, "not_ready": 1, "without_address": 2, "gone": 1}
    assert counts.address_conflicts == 1


def test_nodes_with_a_silent_agent_are_counted_until_the_node_is_deleted() -> None:
    silent = {"type": "Ready", "status": "Unknown", "reason": "AgentStale"}
    names = ("a", "b", "deleted")
    overlays = [overlay(name, status=ADDRESS | {"conditions": [silent]}) for name in names]
    waiting = overlay("c", status=ADDRESS | {"conditions": [silent | {"reason": "WaitingForAgent"}]})
    counts = count([node("a"), node("b"), node("c")], [*overlays, waiting])
    assert counts.silent_agents == 2


def test_routes_are_summed_over_nodes_that_exist() -> None:
    routes = [{"subnet": f"10.{number}.0.0/16", "staticRoute": "r"} for number in range(3)]
    counts = count(
        [node("a"), node("b")],
        [
            overlay("a", spec={"routes": routes}, status=ADDRESS | {"routesReady": 2, "routesFailed": 1}),
            overlay("b", spec={"routes": routes}, status=ADDRESS),
            overlay("left", spec={"routes": routes}, status=ADDRESS | {"routesFailed": 3}),
        ],
    )
    assert counts.routes == {"desired": 6, "programmed": 2, "failed": 1}


def test_waiting_since_is_that_of_the_node_that_has_waited_longest() -> None:
    assert count([], []).waiting_since is None
    assert count([node("a")], [overlay("a", status=ADDRESS)]).waiting_since is None
    assert count([node("a")], []).waiting_since == LATER, "without an object: since the Node was created"
    unreserved = overlay("a", status={"conditions": [reserved("False")]})
    assert count([node("a"), node("b")], [unreserved]).waiting_since == EARLIER
    assert count([node("a")], [overlay("a")]).waiting_since == LATER


def test_reservations_that_failed_are_counted_by_reason_if_the_address_is_in_use() -> None:
    def with_reason(name: str, status: str, reason: str, **options: Any) -> NodeOverlay:
        return overlay(name, status=ADDRESS | {"conditions": [reserved(status) | {"reason": reason}]}, **options)

    counts = count(
        [],
        [
            with_reason("a", "False", "RecordTaken"),
            with_reason("b", "False", "RecordTaken"),
            with_reason("c", "False", "PoolMissing"),
            with_reason("d", "True", "Reserved"),
            with_reason("e", "True", "WaitingForAgent"),
            with_reason("f", "False", "AddressTaken", deleting=True),
            # Without an address, the node itself is waiting, which other metrics show.
            overlay("g", status={"conditions": [reserved("False") | {"reason": "Exhausted"}]}),
            overlay("h"),
        ],
    )
    assert counts.failed_reservations == {"RecordTaken": 2, "PoolMissing": 1}


def test_nodes_whose_address_is_outdated_are_counted_by_reason() -> None:
    def with_reason(name: str, reason: str, **options: Any) -> NodeOverlay:
        condition = {"type": "UpToDate", "status": "False", "reason": reason}
        return overlay(name, status=ADDRESS | {"conditions": [reserved("True"), condition]}, **options)

    counts = count(
        [],
        [
            with_reason("a", "PoolNotSelected"),
            with_reason("b", "PoolMissing"),
            with_reason("c", "PoolMissing"),
            with_reason("d", "PoolMissing", deleting=True),
            overlay("e", status=ADDRESS | {"conditions": [reserved("True")]}),
        ],
    )
    assert counts.outdated_nodes == {"PoolNotSelected": 1, "PoolMissing": 2}
