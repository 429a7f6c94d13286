"""Staged roll-out: never more nodes without a route than allowed, an end where it fails, and one where all is well."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from overlay_net.domain.routes.compile import compile_routes
from overlay_net.domain.routes.protected_subnets import NOTHING
from overlay_net.domain.routes.rollout import NodeProgress, admit, find_held_back
from overlay_net.domain.routes.status import NodeTable, rollout_progress, route_status
from overlay_net.model.kernel import DesiredRoute
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
    """Nodes, their objects and agents, and a controller that decides and writes, as the real one does."""

    route: StaticRoute
    nodes: dict[str, Node] = field(default_factory=dict)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    """Generation of the object that the agent has reported on."""
    failing: dict[str, bool] = field(default_factory=dict)
    """As reported."""
    serial: dict[str, int] = field(default_factory=dict)
    admitted: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)

    def join(self, name: str, created: str = BEFORE) -> None:
        self.nodes[name] = node(name, created)
        self.specs.setdefault(name, {"routes": []})
        self.serial.setdefault(name, 1)

    def change(self, **spec: Any) -> None:
        generation = self.route.generation + 1
        self.route = static_route(generation=generation, status=self.status, **spec)

    def overlay_of(self, name: str) -> Any:
        failure = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "state": "KernelRefused", "message": "no"}
        failures = [failure] if self.failing.get(name) else []
        status = {"observedGeneration": self.seen.get(name, 0), "routes": failures, "routesFailed": len(failures)}
        return overlay(name, spec=self.specs[name], status=status, generation=self.serial[name])

    def tables(self) -> list[NodeTable]:
        return [NodeTable.index(each, self.overlay_of(name)) for name, each in self.nodes.items()]

    def batch(self) -> None:
        """Who is next, and the status."""
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

    def told(self, name: str) -> None:
        """The controller looks at one node."""
        present = self.overlay_of(name)
        kept = find_held_back([self.route], self.nodes[name], present, self.admitted)
        compiled = compile_routes([self.route], self.nodes[name], None, kept=kept)
        if (compiled.routes, compiled.generations) != (present.routes, present.generations):
            self.specs[name] = {
                "routes": [encode_route(each) for each in compiled.routes],
                "generations": [each.to_json() for each in compiled.generations],
            }
            self.serial[name] += 1

    def report(self, name: str, *, failing: bool = False) -> None:
        self.seen[name], self.failing[name] = self.serial[name], failing

    def gateways(self, name: str) -> list[str]:
        routes: tuple[DesiredRoute, ...] = self.overlay_of(name).routes
        return [str(each.gateways[0].address) for each in routes]

    def without(self) -> set[str]:
        """Nodes that were told the present generation and have not reported it in place."""
        return {
            name
            for name in self.nodes
            if any(each.generation == self.route.generation for each in self.overlay_of(name).generations)
            and (self.seen.get(name, 0) < self.serial[name] or self.failing.get(name))
        }


def cluster(*names: str, limit: Any = 1) -> Cluster:
    """All nodes have generation 1, through .1; generation 2 leads through .2."""
    made = Cluster(static_route(gateway="192.168.100.1"))
    for name in names:
        made.join(name)
        made.told(name)
        made.report(name)
    begin(made, 2, limit)
    return made


def begin(made: Cluster, gateway: int, limit: Any) -> None:
    made.last_spec = {"gateway": f"192.168.100.{gateway}", "rollout": {"maxUnavailable": limit}}
    made.change(**made.last_spec)


def turn(made: Cluster) -> None:
    made.batch()
    for name in made.nodes:
        made.told(name)


def programmed(made: Cluster) -> tuple[str, str]:
    (found,) = [each for each in made.status["conditions"] if each["type"] == "Programmed"]
    return found["reason"], found["message"]


def test_one_node_after_the_other_and_the_status_tells_how_far_it_is() -> None:
    made = cluster("n1", "n2", "n3")
    for done in range(3):
        turn(made)
        assert made.without() == {f"n{done + 1}"}
        assert [made.gateways(name) for name in ("n1", "n2", "n3")] == [
            ["192.168.100.2" if place <= done else "192.168.100.1"] for place in range(3)
        ]
        made.batch()
        assert (made.status["updated"], made.status["ready"]) == (done + 1, done)
        assert programmed(made)[0] == ("RollingOut" if done < 2 else "Pending")
        made.report(f"n{done + 1}")
    turn(made)
    assert (made.status["updated"], made.status["ready"]) == (3, 3)
    assert programmed(made)[0] == "Programmed"


def test_it_stops_where_it_fails_says_where_and_goes_on_with_the_next_generation() -> None:
    made = cluster("n1", "n2", "n3")
    turn(made)
    made.report("n1")
    turn(made)
    made.report("n2", failing=True)
    for _ in range(3):
        turn(made)
    reason, message = programmed(made)
    assert reason == "RolloutStopped"
    assert "2 of 3 nodes have this generation" in message
    assert "not in place on n2" in message
    assert made.gateways("n3") == ["192.168.100.1"]
    begin(made, 3, 1)
    turn(made)
    # The node that has nothing to lose comes first.
    assert [made.gateways(name) for name in ("n1", "n2", "n3")] == [
        ["192.168.100.2"],
        ["192.168.100.3"],
        ["192.168.100.1"],
    ]
    made.batch()
    assert (made.status["updated"], made.status["ready"]) == (1, 0)
    for name in ("n2", "n1", "n3"):
        made.report(name)
        turn(made)
    assert made.status["ready"] == 3


def test_a_node_that_joins_gets_the_newest_though_the_roll_out_stands_still() -> None:
    made = cluster("n1", "n2")
    turn(made)
    made.report("n1", failing=True)
    made.join("a-new", AFTER)
    turn(made)
    assert made.gateways("a-new") == ["192.168.100.2"]
    assert made.gateways("n2") == ["192.168.100.1"]


def test_a_new_object_reaches_nodes_in_stages_too() -> None:
    made = Cluster(static_route())
    for name in ("n1", "n2", "n3"):
        made.join(name)
    made.route = static_route(gateway="192.168.100.1", rollout={"maxUnavailable": 2})
    made.last_spec = {"gateway": "192.168.100.1", "rollout": {"maxUnavailable": 2}}
    turn(made)
    assert [len(made.gateways(name)) for name in ("n1", "n2", "n3")] == [1, 1, 0]


def test_objects_without_the_field_reach_all_nodes_at_once_and_leave_no_trace() -> None:
    made = Cluster(static_route(gateway="192.168.100.1"))
    made.last_spec = {"gateway": "192.168.100.1"}
    for name in ("n1", "n2", "n3"):
        made.join(name)
    turn(made)
    assert all(made.gateways(name) == ["192.168.100.1"] for name in made.nodes)
    assert all(not spec["generations"] for spec in made.specs.values())
    assert "updated" not in made.status


def test_deleting_the_object_waits_for_nobody() -> None:
    made = cluster("n1", "n2")
    turn(made)
    gone = static_route(deleting=True, rollout={"maxUnavailable": 1})
    assert not find_held_back([gone], made.nodes["n2"], made.overlay_of("n2"), {})
    assert not compile_routes([gone], made.nodes["n2"], None).routes


def test_shares_are_rounded_up_as_a_daemonset_does() -> None:
    for value, nodes, limit in ((3, 1, 3), ("10%", 5, 1), ("10%", 11, 2), ("100%", 7, 7), ("50%", 0, 1), ("x", 9, 1)):
        rollout = Rollout.parse({"maxUnavailable": value})
        assert rollout is not None
        assert rollout.limit(nodes) == limit, value
    assert Rollout.parse({}) is None


progresses = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=12).map(
    lambda rows: [
        NodeProgress(f"n{number}", reached, reached and in_place, failing and not reached)
        for number, (reached, in_place, failing) in enumerate(rows)
    ]
)


@given(progresses, st.sets(st.integers(0, 15)), st.integers(1, 5))
def test_whatever_it_finds_it_never_takes_back_and_never_lets_more_go_than_allowed(
    progress: list[NodeProgress], numbers: set[int], limit: int
) -> None:
    before = {f"n{number}" for number in numbers}
    result = admit(progress, before, limit)
    reached = {each.node for each in progress if each.reached}
    assert result >= reached | (before & {each.node for each in progress})
    fresh = result - reached - before
    without = sum(each.node in result and not each.in_place for each in progress)
    assert not fresh or without <= limit
    assert admit(progress, result, limit) == result, "asked again, it answers the same"


moves = st.lists(
    st.tuples(st.sampled_from(["batch", "told", "report", "fail", "restart", "change"]), st.integers(0, 5)), max_size=40
)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), moves)
def test_in_whatever_order_things_happen_the_limit_holds_and_all_get_it_in_the_end(
    count: int, limit: int, story: list[tuple[str, int]]
) -> None:
    names = [f"n{number}" for number in range(count)]
    made = cluster(*names, limit=limit)
    generation = 2
    for move, number in story:
        name = names[number % count]
        match move:
            case "batch":
                made.batch()
            case "told":
                made.told(name)
            case "report":
                made.report(name)
            case "fail":
                made.report(name, failing=bool(made.gateways(name) == [f"192.168.100.{generation}"]))
            case "restart":
                made.admitted = {}
            case "change":
                generation += 1
                begin(made, generation, limit)
        assert len(made.without()) <= limit
    for _ in range(count + 1):
        turn(made)
        assert len(made.without()) <= limit
        for name in names:
            made.report(name)
    turn(made)
    assert {name: made.gateways(name) for name in names} == {name: [f"192.168.100.{generation}"] for name in names}


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 3))
def test_where_every_node_fails_no_more_than_the_limit_are_lost(count: int, limit: int) -> None:
    assume(limit < count)
    names = [f"n{number}" for number in range(count)]
    made = cluster(*names, limit=limit)
    for _ in range(count + 2):
        turn(made)
        for name in names:
            made.report(name, failing=made.gateways(name) == ["192.168.100.2"])
    assert sum(made.gateways(name) == ["192.168.100.2"] for name in names) == limit
    turn(made)
    assert programmed(made)[0] == "RolloutStopped"
