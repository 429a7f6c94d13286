"""The status of StaticRoutes by difference: after any changes it is the same as that of a fold over all nodes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.domain.routes.earlier_agent import earlier_outcome, has_entries
from overlay_net.domain.routes.merge import merge_routes
from overlay_net.domain.routes.node_table import EarlierAgent, NodeTable
from overlay_net.domain.routes.route_sets import route_set_name
from overlay_net.domain.routes.status import route_status
from overlay_net.domain.routes.status_index import StatusIndex
from overlay_net.model.api import JsonObject
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey, encode_route_key
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.route_spec import encode_route
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.model.static_route import StaticRoute
from tests.fakes.static_route_status import entry, route_slice
from tests.unit.factories import node, overlay, specified_routes, static_route

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODES = ("n1", "n2", "n3")
NAMES = ("r1", "r2", "r3", "r4")
SUBNETS = ("10.1.0.0/16", "10.2.0.0/16")
GATEWAYS = ("192.168.100.1", "192.168.100.9")
REFUSAL = ("Protected", "it overlaps")


@dataclass
class Changes:
    """Changes objects at random, feeds them to an index, and keeps the statuses that it must have led to."""

    random: Random
    nodes: dict[str, Node] = field(default_factory=dict)
    overlays: dict[str, NodeOverlay] = field(default_factory=dict)
    routes: dict[str, StaticRoute] = field(default_factory=dict)
    versions: list[StaticRoute] = field(default_factory=list)
    """All that the StaticRoutes ever were."""
    slices: dict[str, RouteSlice] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    index: StatusIndex = field(default_factory=StatusIndex)
    statuses: dict[str, JsonObject] = field(default_factory=dict)

    def change(self) -> None:
        self.random.choice((self._change_node, self._change_route, self._change_slice, self._change_refusal))()

    def settle(self) -> None:
        for name in self.index.changes.take(100):
            if name in self.routes:
                self.statuses[name] = self.status(self.index, name)
            else:
                self.statuses.pop(name, None)

    def status(self, index: StatusIndex, name: str) -> JsonObject:
        return route_status(index, self.routes[name], NOW, self.refusal(name), limit=2)

    def refusal(self, name: str) -> tuple[str, str] | None:
        route = self.routes[name]
        return ("Invalid", route.problem) if route.problem else REFUSAL if name in self.refused else None

    def rebuild(self) -> StatusIndex:
        """An index that is fed in another order."""
        index = StatusIndex()
        for name in reversed(NODES):
            index.update_node(name, self.nodes.get(name), self.overlays.get(name))
        for each in self.slices.values():
            index.update_slice(each.name, each)
        for route in self.routes.values():
            index.update_route(route.name, route)
        return index

    def _change_node(self) -> None:
        name = self.random.choice(NODES)
        if self._happens(8):
            self.nodes.pop(name, None)
        elif name not in self.nodes or self._happens(4):
            self.nodes[name] = node(name, zone=self.random.choice(("dal10", "dal12")), boot=self._maybe("b1"))
        if self._happens(8):
            self.overlays.pop(name, None)
        else:
            self.overlays[name] = self._overlay(name)
        self.index.update_node(name, self.nodes.get(name), self.overlays.get(name))

    def _overlay(self, name: str) -> NodeOverlay:
        sets = sorted({route_set_name(each) for each in self.versions})
        named = [{"name": each, "since": self._time()} for each in sets if self.random.random() < 0.8]
        spec: JsonObject = {"routeSets": named, "routesOnly": self._happens(8)}
        status = self._report(sets)
        if self._happens(6):
            del status["observedSlices"]
            gateway = ip_address(GATEWAYS[0])
            routes = [each for found in self.routes.values() for each in specified_routes(found, gateway)]
            spec["routes"] = [encode_route(each) for each in routes if self.random.random() < 0.8]
        return overlay(name, spec=spec, status=status, deleting=self._happens(12))

    def _report(self, sets: list[str]) -> JsonObject:
        slices = [f"{each}-{index}" for each in sets for index in (0, 1)]
        observed = {each: self.random.randint(1, 4) for each in slices if self.random.random() < 0.8}
        failures = [self._failure(self.random.choice(SUBNETS)) for _ in range(self.random.choice((0, 0, 0, 1, 2)))]
        newest = {each.name: each for each in self.versions if not self._happens(3)}
        probes = [
            {"staticRoute": each.name, "uid": each.uid, "generation": each.generation, "state": "Probing"}
            for each in newest.values()
            if self._happens(8)
        ]
        return {
            "ipAddr": "192.168.100.4/24",
            "gateway": self.random.choice(GATEWAYS),
            "interface": "eth0",
            "interfaceLabel": "tmp0",
            "observedUID": "another" if self._happens(20) else "",
            "observedGeneration": self.random.choice((0, 1)),
            "observedSlices": observed,
            "routes": failures,
            "routesFailed": len(failures) + self._happens(8),
            "probes": probes,
            "gateways": [{"address": each, "message": "no answer"} for each in GATEWAYS if self._happens(6)],
            "conditions": [{"type": "GatewayReachable", "status": self.random.choice(("True", "Unknown"))}],
        }

    def _failure(self, subnet: str) -> JsonObject:
        state = self.random.choice(("KernelRefused", "Pending", "GatewayIsThisNode"))
        return {"subnet": subnet, "staticRoute": self.random.choice(NAMES), "state": state, "message": "no"}

    def _change_route(self) -> None:
        name = self.random.choice(NAMES)
        if name in self.routes and self._happens(5):
            del self.routes[name]
        else:
            self.routes[name] = self._route(name, 1 + sum(each.name == name for each in self.versions))
            self.versions.append(self.routes[name])
        self.index.update_route(name, self.routes.get(name))

    def _route(self, name: str, generation: int) -> StaticRoute:
        spec: JsonObject = {}
        if self.random.random() < 0.5:
            spec["gateway"] = self.random.choice(GATEWAYS)
        if self._happens(3):
            spec["rollout"] = {"maxUnavailable": 1}
        zones = {"topology.kubernetes.io/zone": "dal10"} if self._happens(3) else {}
        created = f"2026-01-0{NAMES.index(name) // 2 + 1}T00:00:00Z"
        subnet = self.random.choice((*SUBNETS, "nonsense"))
        return static_route(name, subnet, generation=generation, labels=zones, created=created, **spec)

    def _change_slice(self) -> None:
        if not self.versions:
            return
        route_set, index = route_set_name(self.random.choice(self.versions)), self.random.choice((0, 1))
        name = f"{route_set}-{index}"
        if name in self.slices and self._happens(6):
            del self.slices[name]
        else:
            before = self.slices.get(name)
            generation = before.generation + 1 if before is not None else self.random.choice((1, 3))
            self.slices[name] = route_slice(
                route_set, *self._entries(before, generation), index=index, generation=generation
            )
        self.index.update_slice(name, self.slices.get(name))

    def _entries(self, before: RouteSlice | None, generation: int) -> Iterator[SliceEntry]:
        present = {each.name: each for each in before.content.entries} if before is not None else {}
        newest = {each.name: each for each in self.versions if not each.problem}
        for name in NAMES:
            if name in present and self.random.random() < 0.5:
                yield present[name]
            elif name in newest and self.random.random() < 0.8:
                closed = NOW if self._happens(8) else None
                yield entry(newest[name], slice_generation=generation, closed_since=closed)

    def _change_refusal(self) -> None:
        """What is protected has changed; the controller marks the StaticRoute."""
        name = self.random.choice(NAMES)
        self.refused ^= {name}
        self.index.changes.mark([name])

    def _happens(self, number: int) -> bool:
        return self.random.randrange(number) == 0

    def _maybe(self, text: str) -> str:
        return text if self.random.random() < 0.5 else ""

    def _time(self) -> str:
        return (NOW + timedelta(seconds=self.random.choice((-1, 1)))).strftime("%Y-%m-%dT%H:%M:%SZ")


def fold(made: Changes, name: str) -> dict[str, tuple[str, str]]:
    """State and message on each node, from everything there is and the rule by which agents merge slices."""
    found = {}
    for node_name, present in made.nodes.items():
        mine = made.overlays.get(node_name)
        if mine is None or mine.deleting or not made.routes[name].selects(present) or made.routes[name].problem:
            continue
        outcome = Fold(made, made.routes[name], present, mine).outcome()
        if outcome is not None:
            found[node_name] = outcome
    return found


class Fold:
    """One StaticRoute on one node."""

    def __init__(self, made: Changes, route: StaticRoute, present: Node, mine: NodeOverlay) -> None:
        self.route = route
        self.refused = made.refusal(route.name) is not None
        self.table = NodeTable.index(present, mine)
        self.own = mine.reports_on(present)
        self.report = mine.report
        self.gateway = None if mine.routes_only else mine.assignment.gateway
        self.since = {each.name: each.since for each in mine.route_sets or ()}
        self.slices = made.slices
        self.keys = {encode_route_key(each, route.spec.metric, route.spec.table): each for each in route.subnets}

    def outcome(self) -> tuple[str, str] | None:
        if self.table.earlier is not None:
            return self.earlier_agent(self.table.earlier)
        applying = [each for each, found in self.entries() if each.applies_since(self.since[found.route_set])]
        if self.refused and not any(each.name == self.route.name for each in applying):
            return None
        current = [(each, found) for each, found in self.entries() if self.is_current(each)]
        observed = self.report.observed_slices or {} if self.own else {}
        has_observed = any(observed.get(found.name, 0) >= each.slice_generation for each, found in current)
        return (
            self.waiting(is_updated=bool(current))
            or self.failure(self.older(applying), has_observed=has_observed)
            or self.missing(any(each in applying for each, _ in current))
            or (self.reported() if has_observed else ("Pending", "the agent has not reported yet"))
        )

    def waiting(self, *, is_updated: bool) -> tuple[str, str] | None:
        if self.route.rollout is not None and not is_updated and route_set_name(self.route) not in self.since:
            return "Pending", "waiting for its turn in the rollout"
        probe = next((each for each in self.report.route_probes if self.own and self.is_about(each)), None)
        return None if probe is None else ("Pending", probe.message)

    def failure(self, older: Mapping[RouteKey, tuple[str, Any]], *, has_observed: bool) -> tuple[str, str] | None:
        failures = {each.key: each for each in self.report.failures} if self.own and has_observed else {}
        for key, subnet in self.keys.items():
            winner = older.get(key)
            if winner is not None and winner[1] != self.route.spec_for(subnet.version, self.gateway):
                return "Failed", f"{subnet} is already routed by the older StaticRoute {winner[0]}"
            if key in failures:
                return "Pending" if failures[key].reason == "Pending" else "Failed", f"{subnet}: no"
        return None

    def missing(self, is_there: bool) -> tuple[str, str] | None:
        if is_there:
            return None
        in_slices = any(self.is_current(each) for found in self.slices.values() for each in found.content.entries)
        return "Pending", "not in the NodeOverlayIp yet" if in_slices else "not in a route slice yet"

    def is_current(self, entry: SliceEntry) -> bool:
        return (entry.uid, entry.generation) == self.route.revision

    def entries(self) -> Iterator[tuple[SliceEntry, RouteSlice]]:
        for found in self.slices.values():
            if found.route_set in self.since:
                yield from ((each, found) for each in found.content.entries)

    def is_about(self, probe: Any) -> bool:
        return bool((probe.static_route, probe.uid, probe.generation) == (self.route.name, *self.route.revision))

    def older(self, applying: list[SliceEntry]) -> Mapping[RouteKey, tuple[str, Any]]:
        newest: dict[str, SliceEntry] = {}
        for each in applying:
            if each.name not in newest or newest[each.name].version_key < each.version_key:
                newest[each.name] = each
        older = [each for each in newest.values() if each.age_key < self.route.age_key]
        return {each.key: (each.static_route, each.spec) for each in merge_routes(older, self.gateway)}

    def reported(self) -> tuple[str, str]:
        if any(each.static_route == self.route.name for each in self.report.not_needed):
            return "NotNeeded", "no"
        if self.report.routes_failed > len(self.report.failures):
            return "Pending", "more routes fail on this node than its report lists"
        return "Ready", ""

    def earlier_agent(self, agent: EarlierAgent) -> tuple[str, str] | None:
        if self.refused and not has_entries(self.route, agent):
            return None
        outcome = earlier_outcome(self.route, self.table, agent)
        return outcome.state, outcome.message


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_the_status_by_difference_is_that_of_all_nodes_after_any_changes(seed: int, count: int) -> None:
    made = Changes(Random(seed))
    for _ in range(count):
        made.change()
        if made.random.random() < 0.7:
            made.settle()
    made.settle()
    rebuilt = made.rebuild()
    assert made.statuses.keys() == made.routes.keys()
    for name, status in made.statuses.items():
        assert status == made.status(rebuilt, name)
        check_against_fold(made, name, status)


def check_against_fold(made: Changes, name: str, status: JsonObject) -> None:
    expected = fold(made, name)
    states = [state for state, _ in expected.values()]
    not_needed = states.count("NotNeeded")
    counts = (status["desired"], status["ready"], status["failed"])
    assert counts == (len(states) - not_needed, states.count("Ready"), states.count("Failed"))
    order = ["Failed", "Pending", "NotNeeded", "Ready"]

    def rank(item: tuple[str, tuple[str, str]]) -> tuple[int, bool, str]:
        node_name, (state, message) = item
        return order.index(state), "its turn" in message, node_name

    listed = [(each["hostname"], each["state"], each.get("message", "")) for each in status["nodeStatus"]]
    for (hostname, state, message), (node_name, outcome) in zip(
        listed, sorted(expected.items(), key=rank), strict=False
    ):
        assert (hostname, state) == (node_name, outcome[0])
        assert outcome[1] in message
    assert len(listed) == min(2, len(expected))
