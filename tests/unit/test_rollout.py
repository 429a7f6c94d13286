"""Staged rollout: the limit of unavailable nodes holds, a failure stops it, and success completes it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from overlay_net.domain.routes.compile import compile_routes
from overlay_net.domain.routes.node_status import rollout_progress
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.protected_subnets import NOTHING
from overlay_net.domain.routes.rollout import NodeProgress, admit, find_held_back
from overlay_net.domain.routes.status import route_status
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.node import Node
from overlay_net.model.route_spec import encode_route
from overlay_net.model.static_route import Rollout, StaticRoute
from tests.unit.factories import overlay, static_route

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE, AFTER = "2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"
"""Creation times of nodes; StaticRoutes are made in between."""


def node(name: str, created: str = BEFORE) -> Node:
    return Node.parse({"metadata": {"name": name, "uid": name, "creationTimestamp": created}})


@dataclass
class Cluster:
    """Nodes, their NodeOverlayIps and agents, and a controller that decides and writes as the real one does."""

    route: StaticRoute
    nodes: dict[str, Node] = field(default_factory=dict)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    observed: dict[str, int] = field(default_factory=dict)
    """Generation of the NodeOverlayIp that the agent has reported on."""
    failing: dict[str, bool] = field(default_factory=dict)
    """As reported."""
    serial: dict[str, int] = field(default_factory=dict)
    admitted: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)

    recreated: set[str] = field(default_factory=set)
    """Nodes whose NodeOverlayIp is younger than the StaticRoute."""

    def join(self, name: str, created: str = BEFORE) -> None:
        self.nodes[name] = node(name, created)
        self.specs.setdefault(name, {"routes": []})
        self.serial.setdefault(name, 1)

    def recreate_overlay(self, name: str) -> None:
        """A person deletes the NodeOverlayIp, and the controller creates it again."""
        self.specs[name], self.serial[name] = {"routes": []}, 1
        self.observed.pop(name, None)
        self.recreated.add(name)

    def change(self, **spec: Any) -> None:
        generation = self.route.generation + 1
        self.route = static_route(generation=generation, status=self.status, **spec)

    def parse_overlay(self, name: str) -> Any:
        failure = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "state": "KernelRefused", "message": "no"}
        failures = [failure] if self.failing.get(name) else []
        status = {"observedGeneration": self.observed.get(name, 0), "routes": failures, "routesFailed": len(failures)}
        created = AFTER if name in self.recreated else BEFORE
        return overlay(name, spec=self.specs[name], status=status, generation=self.serial[name], created=created)

    def tables(self) -> list[NodeTable]:
        return [NodeTable.index(each, self.parse_overlay(name)) for name, each in self.nodes.items()]

    def update_status(self) -> None:
        """Admits the next nodes and updates the status, as the status reconciler does."""
        tables = self.tables()
        if self.route.rollout is not None:
            key = (self.route.uid, self.route.generation)
            progress = rollout_progress(self.route, tables, NOTHING)
            limit = self.route.rollout.limit(len(progress))
            self.admitted = {key: admit(progress, self.admitted.get(key, ()), limit)}
        self.status = route_status(self.route, tables, NOW)
        self.route = static_route(
            generation=self.route.generation,
            status=self.status,
            **self.last_spec,
        )

    last_spec: dict[str, Any] = field(default_factory=dict)

    def reconcile_node(self, name: str) -> None:
        """Writes the routes of one node, as the node reconciler does."""
        present = self.parse_overlay(name)
        held_back = find_held_back([self.route], self.nodes[name], present, self.admitted)
        compiled = compile_routes([self.route], self.nodes[name], None, held_back=held_back)
        if (compiled.routes, compiled.generations) != (present.routes, present.generations):
            self.specs[name] = {
                "routes": [encode_route(each) for each in compiled.routes],
                "generations": [each.to_json() for each in compiled.generations],
            }
            self.serial[name] += 1

    def report(self, name: str, *, failing: bool = False) -> None:
        self.observed[name], self.failing[name] = self.serial[name], failing

    def gateways(self, name: str) -> list[str]:
        routes: tuple[DesiredRoute, ...] = self.parse_overlay(name).routes
        return [str(each.spec.gateways[0].address) for each in routes]

    def unavailable(self) -> set[str]:
        """Nodes that have the current generation and have not reported it in place."""
        return {
            name
            for name in self.nodes
            if any(each.generation == self.route.generation for each in self.parse_overlay(name).generations)
            and (self.observed.get(name, 0) < self.serial[name] or self.failing.get(name))
        }


def cluster(*names: str, limit: Any = 1) -> Cluster:
    """All nodes have generation 1, via .1; generation 2 is via .2."""
    made = Cluster(static_route(gateway="192.168.100.1"))
    for name in names:
        made.join(name)
        made.reconcile_node(name)
        made.report(name)
    start_rollout(made, 2, limit)
    return made


def start_rollout(made: Cluster, gateway: int, limit: Any) -> None:
    made.last_spec = {"gateway": f"192.168.100.{gateway}", "rollout": {"maxUnavailable": limit}}
    made.change(**made.last_spec)


def reconcile(made: Cluster) -> None:
    made.update_status()
    for name in made.nodes:
        made.reconcile_node(name)


def programmed(made: Cluster) -> tuple[str, str]:
    (found,) = [each for each in made.status["conditions"] if each["type"] == "Programmed"]
    return found["reason"], found["message"]


def test_nodes_are_updated_one_after_the_other_and_the_status_shows_the_progress() -> None:
    made = cluster("n1", "n2", "n3")
    for done in range(3):
        reconcile(made)
        assert made.unavailable() == {f"n{done + 1}"}
        assert [made.gateways(name) for name in ("n1", "n2", "n3")] == [
            ["192.168.100.2" if place <= done else "192.168.100.1"] for place in range(3)
        ]
        made.update_status()
        assert (made.status["updated"], made.status["ready"]) == (done + 1, done)
        assert programmed(made)[0] == ("RollingOut" if done < 2 else "Pending")
        made.report(f"n{done + 1}")
    reconcile(made)
    assert (made.status["updated"], made.status["ready"]) == (3, 3)
    assert programmed(made)[0] == "Programmed"


def test_a_failure_stops_the_rollout_and_the_next_generation_continues_it() -> None:
    made = cluster("n1", "n2", "n3")
    reconcile(made)
    made.report("n1")
    reconcile(made)
    made.report("n2", failing=True)
    for _ in range(3):
        reconcile(made)
    reason, message = programmed(made)
    assert reason == "RolloutStopped"
    assert "2 of 3 nodes updated" in message
    assert "not in place on n2" in message
    assert made.gateways("n3") == ["192.168.100.1"]
    start_rollout(made, 3, 1)
    reconcile(made)
    # The failing node is updated first.
    assert [made.gateways(name) for name in ("n1", "n2", "n3")] == [
        ["192.168.100.2"],
        ["192.168.100.3"],
        ["192.168.100.1"],
    ]
    made.update_status()
    assert (made.status["updated"], made.status["ready"]) == (1, 0)
    for name in ("n2", "n1", "n3"):
        made.report(name)
        reconcile(made)
    assert made.status["ready"] == 3


def test_a_new_node_gets_the_current_generation_although_the_rollout_is_stopped() -> None:
    made = cluster("n1", "n2")
    reconcile(made)
    made.report("n1", failing=True)
    made.join("a-new", AFTER)
    reconcile(made)
    assert made.gateways("a-new") == ["192.168.100.2"]
    assert made.gateways("n2") == ["192.168.100.1"]


def test_a_recreated_node_overlay_ip_gets_the_current_generation_although_the_rollout_is_stopped() -> None:
    made = cluster("n1", "n2", "n3")
    reconcile(made)
    made.report("n1", failing=True)
    reconcile(made)
    made.recreate_overlay("n2")
    reconcile(made)
    assert made.gateways("n2") == ["192.168.100.2"], "its previous generation is unknown, and no routes is worse"
    assert made.gateways("n3") == ["192.168.100.1"]
    assert programmed(made)[0] == "RolloutStopped"


def test_a_new_object_is_rolled_out_in_stages_too() -> None:
    made = Cluster(static_route())
    for name in ("n1", "n2", "n3"):
        made.join(name)
    made.route = static_route(gateway="192.168.100.1", rollout={"maxUnavailable": 2})
    made.last_spec = {"gateway": "192.168.100.1", "rollout": {"maxUnavailable": 2}}
    reconcile(made)
    assert [len(made.gateways(name)) for name in ("n1", "n2", "n3")] == [1, 1, 0]


def test_without_rollout_all_nodes_are_updated_at_once_and_no_generation_is_recorded() -> None:
    made = Cluster(static_route(gateway="192.168.100.1"))
    made.last_spec = {"gateway": "192.168.100.1"}
    for name in ("n1", "n2", "n3"):
        made.join(name)
    reconcile(made)
    assert all(made.gateways(name) == ["192.168.100.1"] for name in made.nodes)
    assert all(not spec["generations"] for spec in made.specs.values())
    assert "updated" not in made.status


def test_a_deleted_object_is_removed_from_all_nodes_at_once() -> None:
    made = cluster("n1", "n2")
    reconcile(made)
    deleted = static_route(deleting=True, rollout={"maxUnavailable": 1})
    assert not find_held_back([deleted], made.nodes["n2"], made.parse_overlay("n2"), {})
    assert not compile_routes([deleted], made.nodes["n2"], None).routes


def test_percentages_are_rounded_up_as_in_a_daemonset() -> None:
    for value, nodes, limit in ((3, 1, 3), ("10%", 5, 1), ("10%", 11, 2), ("100%", 7, 7), ("50%", 0, 1), ("x", 9, 1)):
        rollout = Rollout.parse({"maxUnavailable": value})
        assert rollout is not None
        assert rollout.limit(nodes) == limit, value
    assert Rollout.parse({}) is None


node_progress = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=12).map(
    lambda rows: [
        NodeProgress(f"n{number}", updated, updated and in_place, failing and not updated)
        for number, (updated, in_place, failing) in enumerate(rows)
    ]
)


@given(node_progress, st.sets(st.integers(0, 15)), st.integers(1, 5))
def test_admission_is_never_revoked_and_respects_the_limit(
    progress: list[NodeProgress], numbers: set[int], limit: int
) -> None:
    before = {f"n{number}" for number in numbers}
    result = admit(progress, before, limit)
    updated = {each.node for each in progress if each.updated}
    assert result >= updated | (before & {each.node for each in progress})
    newly_admitted = result - updated - before
    unavailable = sum(each.node in result and not each.in_place for each in progress)
    assert not newly_admitted or unavailable <= limit
    assert admit(progress, result, limit) == result, "the result is stable"


moves = st.lists(
    st.tuples(st.sampled_from(["status", "node", "report", "fail", "restart", "change"]), st.integers(0, 5)),
    max_size=40,
)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), moves)
def test_the_limit_holds_in_any_order_of_events_and_the_rollout_completes(
    count: int, limit: int, steps: list[tuple[str, int]]
) -> None:
    names = [f"n{number}" for number in range(count)]
    made = cluster(*names, limit=limit)
    generation = 2
    for move, number in steps:
        name = names[number % count]
        match move:
            case "status":
                made.update_status()
            case "node":
                made.reconcile_node(name)
            case "report":
                made.report(name)
            case "fail":
                made.report(name, failing=bool(made.gateways(name) == [f"192.168.100.{generation}"]))
            case "restart":
                made.admitted = {}
            case "change":
                generation += 1
                start_rollout(made, generation, limit)
        assert len(made.unavailable()) <= limit
    for _ in range(count + 1):
        reconcile(made)
        assert len(made.unavailable()) <= limit
        for name in names:
            made.report(name)
    reconcile(made)
    assert {name: made.gateways(name) for name in names} == {name: [f"192.168.100.{generation}"] for name in names}


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 3))
def test_if_every_node_fails_only_as_many_as_the_limit_are_affected(count: int, limit: int) -> None:
    assume(limit < count)
    names = [f"n{number}" for number in range(count)]
    made = cluster(*names, limit=limit)
    for _ in range(count + 2):
        reconcile(made)
        for name in names:
            made.report(name, failing=made.gateways(name) == ["192.168.100.2"])
    assert sum(made.gateways(name) == ["192.168.100.2"] for name in names) == limit
    reconcile(made)
    assert programmed(made)[0] == "RolloutStopped"
