"""An API server with a history, a controller that plans slices and sets, and agents that merge what they have received.

Nothing is delivered by itself: a test decides who receives what, and when.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from overlay_net.domain.routes.merge import merge_routes
from overlay_net.domain.routes.node_routes import KnownSlices, NodeStaticRoutes, find_static_routes, keep_earlier
from overlay_net.domain.routes.node_sets import find_fitting, find_route_sets
from overlay_net.domain.routes.set_states import RouteSets
from overlay_net.domain.routes.set_users import SetUser, SetUserIndex
from overlay_net.domain.routes.slice_plan import SlicePlan, SlicePlanner
from overlay_net.domain.routes.slice_writes import SliceWrite
from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.names import ROUTE_SET_LABEL
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_slice import RouteSlice, SliceContent, by_set, slice_manifest, slice_name
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import node, overlay, static_route

START = datetime(2026, 6, 1, tzinfo=UTC)
JOINED = "2025-01-01T00:00:00Z"


@dataclass
class Api:
    """The slices, with each change of them in order."""

    slices: dict[str, RouteSlice] = field(default_factory=dict)
    history: list[tuple[str, RouteSlice, bool]] = field(default_factory=list)
    """Name, slice, and whether it was deleted."""

    def write(self, name: str, raw: JsonObject) -> None:
        present = self.slices.get(name)
        serial = str(len(self.history) + 1)
        content = RouteSlice.parse(raw)
        if present is not None and (present.content, present.label) == (content.content, content.label):
            return
        uid = present.uid if present is not None else f"uid-{serial}"
        raw["metadata"] |= {"uid": uid, "resourceVersion": serial}
        self.slices[name] = RouteSlice.parse(raw)
        self.history.append((name, self.slices[name], False))

    def delete(self, name: str) -> None:
        self.history.append((name, self.slices.pop(name), True))


@dataclass
class Agent:
    """Merges the slices of the sets in the NodeOverlayIp that it has received."""

    node: str
    api: Api
    overlay: NodeOverlay | None = None
    view: dict[str, RouteSlice] = field(default_factory=dict)
    position: int = 0
    """How much of the history it has received."""
    listed: bool = False
    merged: NodeStaticRoutes = field(default_factory=lambda: NodeStaticRoutes((), {}, is_complete=True))
    on_merge: Callable[["Agent"], None] = lambda _: None
    reconciled: int = 0
    """The generation of the NodeOverlayIp that ``merged`` is from."""

    def receive_overlay(self, present: NodeOverlay) -> None:
        before = self._names()
        self.overlay = present
        if self._names() != before:
            # What it has may be older than the object, so it lists the slices before it uses the names.
            self.listed = False
        self.merge()

    def list_slices(self) -> None:
        self.view = {name: each for name, each in self.api.slices.items() if each.label in self._names()}
        self.position = len(self.api.history)
        self.listed = True
        self.merge()

    def receive_slice(self) -> bool:
        """Receive the next change of a slice of its sets. Returns whether there was one."""
        while self.listed and self.position < len(self.api.history):
            name, each, deleted = self.api.history[self.position]
            self.position += 1
            if each.label in self._names():
                if deleted:
                    self.view.pop(name, None)
                else:
                    self.view[name] = each
                self.merge()
                return True
        return False

    def restart(self) -> None:
        self.listed, self.view = False, {}

    def merge(self) -> None:
        if self.overlay is None or self.overlay.route_sets is None or not self.listed:
            return
        known = KnownSlices(by_set(self.view.values()), self._names())
        found = find_static_routes(self.overlay, known)
        if not found.is_complete:
            found = keep_earlier(found, self.merged, since_start=False)
        self.merged = found
        self.reconciled = self.overlay.generation
        self.on_merge(self)

    @property
    def entries(self) -> Mapping[str, SliceEntry]:
        """The StaticRoutes that it uses."""
        return {each.name: each for each in self.merged.entries if not each.retained}

    @property
    def routes(self) -> Mapping[RouteKey, DesiredRoute]:
        return {route.key: route for route in merge_routes(self.merged.entries, None)}

    def _names(self) -> frozenset[str]:
        sets = self.overlay.route_sets if self.overlay is not None else None
        return frozenset(each.name for each in sets or ())


class Cluster:
    """``max_routes`` is the size of a slice."""

    def __init__(self, max_routes: int = 64) -> None:
        self.api = Api()
        self.static_routes: dict[str, StaticRoute] = {}
        self.refused: set[str] = set()
        self.nodes: dict[str, Node] = {}
        self.overlays: dict[str, NodeOverlay] = {}
        self.agents: dict[str, Agent] = {}
        self.silent: set[str] = set()
        self.admitted: dict[tuple[str, int], set[str]] = {}
        self.clock = 1000.0
        self.writes: list[SliceWrite] = []
        self._max_routes = max_routes
        self._created = 0
        self.restart()

    # --- What persons do ----------------------------------------------------------------------------------------------

    def create(self, name: str, *subnets: str, **options: Any) -> None:
        self._created += 1
        created = f"2026-01-01T{self._created // 60:02}:{self._created % 60:02}:00Z"
        self._set(name, subnets, created, f"{name}-{self._created}", 1, options)

    def edit(self, name: str, *subnets: str, **options: Any) -> None:
        before = self.static_routes[name]
        self._set(name, subnets, before.created, before.uid, before.generation + 1, options)

    def _set(
        self, name: str, subnets: Collection[str], created: str, uid: str, generation: int, options: dict[str, Any]
    ) -> None:
        first, *others = subnets
        made = static_route(name, first, created=created, generation=generation, subnets=others, **options)
        self.static_routes[name] = replace(made, uid=uid)
        self._unsettle()

    def delete(self, name: str) -> None:
        del self.static_routes[name]
        self.refused.discard(name)
        self._unsettle()

    def refuse(self, name: str, refused: bool = True) -> None:
        (self.refused.add if refused else self.refused.discard)(name)
        self._unsettle()

    def refusal(self, route: StaticRoute) -> tuple[str, str] | None:
        return ("Protected", "") if route.name in self.refused else None

    def join(self, name: str, created: str = JOINED, **labels: str) -> None:
        self.label(name, created, **labels)
        self.overlays[name] = overlay(name, created=created)
        self.agents[name] = Agent(name, self.api)

    def write_routes(self, name: str, *routes: DesiredRoute) -> None:
        """Write the object of a node as an earlier version did."""
        self._update(replace(self.overlays[name], routes=routes, has_routes=True))

    def label(self, name: str, created: str = JOINED, **labels: str) -> None:
        made = node(name, uid=name, **labels)
        self.nodes[name] = replace(made, created=datetime.fromisoformat(created))

    def damage(self, name: str, content: SliceContent | None, **labels: str) -> None:
        """Edit a slice as with ``kubectl edit``, or delete it."""
        if content is None:
            self.api.delete(name)
            return
        raw = slice_manifest(0, content)
        raw["metadata"]["name"] = name
        present = self.api.slices.get(name)
        if present is not None:
            raw["spec"]["checksum"] = slice_manifest(0, present.content)["spec"]["checksum"]
        if labels:
            raw["metadata"]["labels"] = {ROUTE_SET_LABEL: labels["label"]}
        self.api.write(name, raw)

    # --- The controller -----------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Start another controller, which knows what the API server has and nothing else."""
        self.planner = SlicePlanner(self._max_routes)
        self.sets = RouteSets()
        self.admitted = {}
        self.users = SetUserIndex(self._find_user)
        for each in self.overlays.values():
            self.users.update(each.name, each)
        self.synchronize()

    def _unsettle(self) -> None:
        # As with each event of a StaticRoute: it is not known yet whether the slices have everything.
        self.sets = replace(self.sets, settled=False)

    def _find_user(self, name: str) -> SetUser | None:
        return SetUser(self.nodes[name], self.overlays[name], name in self.silent)

    def synchronize(self) -> None:
        """Receive every change of the slices."""
        self.cached = dict(self.api.slices)

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.clock)

    def plan(self, writes: int = 1000) -> SlicePlan:
        """Plan the slices, and carry out at most so many writes."""
        planned = self.planner.plan(self.static_routes.values(), self, self.cached, self.users, self.now, self.clock)
        self.sets = planned.sets
        for write in [write for step in planned.steps for write in step][:writes]:
            if not self._carry_out(write):
                break
        return planned

    def _carry_out(self, write: SliceWrite) -> bool:
        present = self.api.slices.get(write.name)
        versions = [each and each.resource_version for each in (present, write.present)]
        if versions[0] != versions[1]:
            return False
        self.writes.append(write)
        if write.content is None:
            self._check_unused(write)
            self.api.delete(write.name)
        else:
            assert write.name == slice_name(write.content.route_set, write.index)
            self.api.write(write.name, slice_manifest(write.index, write.content))
        return True

    def _check_unused(self, write: SliceWrite) -> None:
        """No slice is deleted that a node may need."""
        assert write.present is not None
        route_set = write.present.route_set
        first = self.api.slices.get(slice_name(route_set, 0))
        listed = first is not None and write.index in first.content.slices
        assert not (listed and self.users.count(route_set)), f"{write.name} is in use"

    def reconcile(self, name: str) -> None:
        """Write the sets of one node."""
        present, chosen = self.overlays[name], self.nodes[name]
        fitting = find_fitting(chosen, self.sets)
        found = find_route_sets(chosen, present, fitting, self.sets, self.admitted, self.now)
        if found.named != present.route_sets:
            self._update(replace(present, route_sets=found.named, generation=present.generation + 1))

    def admit(self, name: str) -> None:
        for route in self.static_routes.values():
            if route.rollout is not None:
                self.admitted.setdefault(route.revision, set()).add(name)

    def _update(self, changed: NodeOverlay) -> None:
        self.overlays[changed.name] = changed
        self.users.update(changed.name, changed)

    # --- The agents ---------------------------------------------------------------------------------------------------

    def deliver(self, name: str) -> None:
        self.agents[name].receive_overlay(self.overlays[name])

    def report(self, name: str) -> None:
        agent, present = self.agents[name], self.overlays[name]
        if agent.reconciled:
            report = replace(
                present.report, observed_generation=agent.reconciled, observed_slices=dict(agent.merged.slices)
            )
            self._update(replace(present, report=report))

    def settle(self, rounds: int = 12) -> None:
        """Deliver everything to everyone until nothing changes any more."""
        for _ in range(rounds):
            for name in self.nodes:
                self.admit(name)
            for name in self.agents:
                self.complete(name)

    def complete(self, name: str) -> None:
        """Bring a node to what the StaticRoutes are now."""
        self.synchronize()
        self.plan()
        self.synchronize()
        self.plan(0)
        self.reconcile(name)
        self.deliver(name)
        self.agents[name].list_slices()
        self.report(name)

    def entries(self, name: str) -> Mapping[str, SliceEntry]:
        """The StaticRoutes that the agent of a node uses."""
        return self.agents[name].entries
