"""Watches that no route that stays is ever absent on a node, while a story changes StaticRoutes and delivers changes.

A story is a list of steps; ``run`` carries out one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from overlay_net.domain.routes.entry_keys import find_keys
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.node import Node
from overlay_net.model.route_key import RouteKey
from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import specified_routes
from tests.unit.slice_cluster import JOINED, Agent, Cluster

ZONE = "topology.kubernetes.io/zone"
LATER = "2027-01-01T00:00:00Z"


def find_rule(node: Node, static_routes: list[StaticRoute]) -> Mapping[RouteKey, DesiredRoute]:
    """The routes of these StaticRoutes on a node: the oldest one wins a key."""
    chosen: dict[RouteKey, DesiredRoute] = {}
    for route in sorted(static_routes, key=lambda each: each.age_key):
        if not route.problem and route.selects(node):
            for each in specified_routes(route, None):
                chosen.setdefault(each.key, each)
    return chosen


@dataclass
class Observer:
    """Watches that no route that stays is ever absent."""

    made: Cluster
    stays: dict[str, set[RouteKey]] = field(default_factory=dict)
    """By node, what is in place, and desired ever since."""
    since: dict[str, dict[RouteKey, int]] = field(default_factory=dict)
    """By node, the change since which each key has been desired all the time."""
    revised: dict[tuple[str, int], int] = field(default_factory=dict)
    """The change that made each revision."""
    changes: int = 0
    kept: dict[tuple[str, str], frozenset[RouteKey]] = field(default_factory=dict)
    """By node and refused StaticRoute, the keys that were in place when it was refused, and are still specified."""
    joined_later: set[tuple[str, str]] = field(default_factory=set)
    """Nodes that joined while a StaticRoute was refused."""

    def desired(self, name: str) -> set[RouteKey]:
        keys = set(find_rule(self.made.nodes[name], self.accepted()))
        return keys.union(*(found for (node, _), found in self.kept.items() if node == name))

    def accepted(self) -> list[StaticRoute]:
        return [each for each in self.made.static_routes.values() if each.name not in self.made.refused]

    def changed(self) -> None:
        """The StaticRoutes or the labels have changed."""
        for (node, name), keys in list(self.kept.items()):
            route = self.made.static_routes.get(name)
            if route is None or name not in self.made.refused or route.problem:
                del self.kept[node, name]
            elif not route.selects(self.made.nodes[node]):
                # It stays where it was, unless it had a rollout.
                del self.kept[node, name]
            else:
                self.kept[node, name] = keys & {each.key for each in specified_routes(route, None)}
        self.changes += 1
        for route in self.made.static_routes.values():
            self.revised.setdefault(route.revision, self.changes)
        for name in self.made.nodes:
            before, desired = self.since.get(name, {}), self.desired(name)
            self.since[name] = {key: before.get(key, self.changes) for key in desired}
            self.stays[name] = self.stays.get(name, set()) & desired

    def merged(self, agent: Agent) -> None:
        since, stays = self.since.get(agent.node, {}), self.stays.setdefault(agent.node, set())
        missing = stays - agent.routes.keys()
        assert not missing, f"{agent.node} lacks {missing}"
        for entry in agent.merged.entries:
            revised = self.revised.get((entry.uid, entry.generation), 0)
            stays |= {key for key in find_keys(entry) if since.get(key, revised + 1) <= revised}

    def refuse(self, name: str, refused: bool) -> None:
        if refused and name not in self.made.refused:
            self._note_kept(name)
        if not refused:
            self.joined_later = {each for each in self.joined_later if each[1] != name}
        self.made.refuse(name, refused)

    def _note_kept(self, name: str) -> None:
        route = self.made.static_routes[name]
        specified = {each.key for each in specified_routes(route, None)}
        entries = (each for found in self.made.api.slices.values() for each in found.content.entries)
        written = [each for each in entries if (each.name, each.uid) == (name, route.uid)]
        # What the latest written revision has lost is not in place any more, although agents may not know it yet.
        latest = max(written, key=lambda each: each.version_key, default=None)
        specified &= find_keys(latest) if latest is not None else frozenset()
        for node, agent in self.made.agents.items():
            entry = agent.entries.get(name)
            if entry is not None and entry.uid == route.uid:
                self.kept[node, name] = find_keys(entry) & specified

    def label(self, name: str, pool: str, zone: str) -> None:
        self.made.label(name, pool=pool, zone=zone)
        self.kept = {key: keys for key, keys in self.kept.items() if key[0] != name}
        self.stays[name] = {key for key in self.stays.get(name, set()) if not self._awaits_turn(name, key)}

    def _awaits_turn(self, name: str, key: RouteKey) -> bool:
        """Whether a node has a key from a StaticRoute that may no longer select it, and next from a staged rollout."""
        found = self.made.agents[name].routes.get(key)
        desired = find_rule(self.made.nodes[name], self.accepted()).get(key)
        if found is None or desired is None or found.static_route == desired.static_route:
            return False
        return self.made.static_routes[desired.static_route].rollout is not None

    def join(self, name: str, **options: str) -> None:
        self.made.join(name, **options)
        self.joined_later |= {(name, refused) for refused in self.made.refused}
        self.made.agents[name].on_merge = self.merged

    def check_end(self) -> None:
        """Every node has the accepted StaticRoutes that select it; keys of refused ones are not compared."""
        refused = self.made.refused
        for name, node in self.made.nodes.items():
            entries = self.made.entries(name)
            unclear = {key for each in entries.values() if each.name in refused for key in find_keys(each)}
            rule = find_rule(node, self.accepted())
            found = self.made.agents[name].routes
            assert {key: each for key, each in found.items() if key not in unclear} == {
                key: each for key, each in rule.items() if key not in unclear
            }
            assert not any((name, each) in self.joined_later for each in refused & entries.keys())


def started() -> tuple[Cluster, Observer]:
    made = Cluster(max_routes=3)
    observer = Observer(made)
    made.create("r1", "10.0.0.0/16", "10.1.0.0/16")
    made.create("r2", "10.2.0.0/16", nodeSelector={"matchLabels": {"pool": "a"}})
    for number, pool in enumerate("ab"):
        observer.join(f"n{number}", pool=pool, zone="z1")
    observer.changed()
    made.settle(3)
    return made, observer


def run(observer: Observer, step: tuple[Any, ...]) -> None:
    kind, *values = step
    if kind in ("change", "delete", "recreate", "refuse"):
        change_route(observer, kind, *values)
    elif kind in ("label", "join", "lose slice"):
        change_cluster(observer, kind, *values)
    else:
        make_progress(observer.made, kind, *values)
    observer.changed()


def change_route(observer: Observer, kind: str, static_route: str, *values: Any) -> None:
    made = observer.made
    exists = static_route in made.static_routes
    match kind:
        case "recreate" if exists:
            made.delete(static_route)
            observer.changed()
            change_route(observer, "change", static_route, *values)
        case "change" | "recreate":
            subnets, selector, gateway = values
            (made.edit if exists else made.create)(static_route, *subnets, gateway=gateway, **selector)
        case "delete" if exists:
            made.delete(static_route)
        case "refuse" if exists:
            observer.refuse(static_route, *values)


def change_cluster(observer: Observer, kind: str, number: Any, *values: Any) -> None:
    made = observer.made
    match kind:
        case "label":
            observer.label(find_node(made, number), *values)
        case "join" if len(made.nodes) < 3:
            observer.join(f"n{len(made.nodes)}", created=LATER if number else JOINED, pool=values[0], zone="z2")
        case "lose slice" if made.api.slices:
            # A controller that has not read a slice before it is lost cannot know which nodes had what is refused now.
            made.synchronize()
            made.plan()
            made.api.delete(sorted(made.api.slices)[number % len(made.api.slices)])
            made.synchronize()
            made.plan()


def make_progress(made: Cluster, kind: str, *values: Any) -> None:
    name = find_node(made, values[0]) if values else ""
    match kind:
        case "plan":
            made.plan(values[0])
            if values[1]:
                made.restart()
        case "synchronize":
            made.synchronize()
        case "reconcile":
            made.reconcile(name)
        case "deliver":
            made.deliver(name)
        case "list":
            made.agents[name].list_slices()
        case "receive":
            made.agents[name].receive_slice()
        case "report":
            made.report(name)
        case "admit":
            made.admit(name)
        case "restart agent":
            made.agents[name].restart()
        case "everything":
            made.complete(name)
        case "wait":
            made.clock += 1


def find_node(made: Cluster, number: int) -> str:
    return sorted(made.nodes)[number % len(made.nodes)]
