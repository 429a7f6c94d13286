"""The status of StaticRoutes in a large cluster: what is computed and written, when, and without blocking."""

import asyncio
from typing import Any

from overlay_net.controller.caches import Caches
from overlay_net.controller.status_reconciler import BATCH, MAX_FAILURE_DELAY, ROUTES, StatusReconciler
from overlay_net.controller.write_pace import IDLE, WritePace
from overlay_net.domain.routes.node_states import NodeStates
from overlay_net.domain.routes.status_changes import Priority
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.conditions import ROUTE_SETS_KNOWN
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, STATIC_ROUTES
from overlay_net.model.route_slice import RouteSlice, slice_manifest
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.worker import Requeue
from tests.fakes.kube import InMemoryKube
from tests.fakes.static_route_status import GENERATION, make_slices
from tests.fakes.turns import Turns
from tests.unit.factories import raw_node, raw_static_route


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SlowKube(InMemoryKube):
    """Each write takes ``seconds`` of the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = 0.0
        self.written: list[str] = []

    async def apply(self, resource: Any, name: str, *arguments: Any, **more: Any) -> JsonObject:
        self.clock.now += self.seconds
        self.written.append(name)
        return await super().apply(resource, name, *arguments, **more)


class Large:
    """Nodes that have ``routes`` StaticRoutes in place, and a controller whose watch reports every write."""

    def __init__(self, max_delay: float = MAX_FAILURE_DELAY) -> None:
        self.clock = Clock()
        self.kube = SlowKube(self.clock)
        self.caches = Caches()
        self.due: list[float] = []
        self.reports = 0
        api: Any = self.kube
        events = EventRecorder(api, CONTROLLER_FIELD_MANAGER, "test")
        self.reconciler = StatusReconciler(
            api,
            self.caches,
            ControllerMetrics(),
            events,
            self.due.append,
            lambda _: None,
            WritePace(self.clock),
            max_delay=max_delay,
            clock=self.clock,
        )

    async def start(self, nodes: int, routes: int) -> None:
        self.caches.protected.set_unknown("")
        for number in range(routes):
            await self.kube.create(
                STATIC_ROUTES, raw_static_route(f"r{number:04}", f"10.{number % 250}.{number // 250}.0/24")
            )
        self.caches.routes.replace(await self.kube.list(STATIC_ROUTES))
        slices = make_slices(self.caches.routes.values())
        self.caches.slices.replace(Listing(tuple(map(raw_slice, slices)), "1"))
        names = [f"n{number}" for number in range(nodes)]
        self.caches.nodes.replace(Listing(tuple(map(raw_node, names)), "1"))
        self.caches.overlays.replace(Listing(tuple(raw_overlay(name, slices) for name in names), "1"))
        for store in (self.caches.pools, self.caches.records):
            store.replace(Listing((), "1"))
        self.kube.subscribers.append(lambda _, event: self.caches.routes.apply(event))

    async def write_next(self) -> Requeue | None:
        """Reconcile when the next batch is due."""
        self.clock.now += self.due[-1]
        return await self.reconciler.reconcile(ROUTES)

    async def settle(self) -> None:
        while (again := await self.reconciler.reconcile(ROUTES)) is not None:
            self.clock.now += again.after or 0.0
        self.kube.written.clear()
        self.clock.now += 3600

    def join(self, name: str) -> None:
        self.caches.nodes.apply(WatchEvent("ADDED", raw_node(name)))
        self.report(name)

    def report(self, name: str, failures: int = 0, *, has_slices: bool = True, unknown: str = "") -> None:
        slices = make_slices(self.caches.routes.values())
        listed = [
            {"subnet": f"10.{number}.0.0/24", "staticRoute": f"r{number:04}", "state": "KernelRefused", "message": "no"}
            for number in range(failures)
        ]
        raw = raw_overlay(name, slices)
        self.reports += 1
        raw["metadata"]["resourceVersion"] = f"report-{self.reports}"
        raw["status"] |= {"routes": listed, "routesFailed": failures}
        if not has_slices:
            raw["status"]["observedSlices"] = {}
        if unknown:
            condition = {"type": ROUTE_SETS_KNOWN, "status": "False", "reason": "RoutesUnknown", "message": unknown}
            raw["status"]["conditions"] = [condition]
        self.caches.overlays.apply(WatchEvent("MODIFIED", raw))

    async def ready(self) -> list[int]:
        return [raw["status"]["ready"] for raw in (await self.kube.list(STATIC_ROUTES)).items]


def raw_slice(each: RouteSlice) -> JsonObject:
    raw = slice_manifest(each.index, each.content, uid=each.uid)
    raw["metadata"]["resourceVersion"] = each.resource_version
    return raw


def raw_overlay(name: str, slices: list[RouteSlice]) -> JsonObject:
    return {
        "metadata": {"name": name, "uid": name, "resourceVersion": "1", "generation": 1},
        "spec": {"routeSets": [{"name": each.route_set} for each in slices]},
        "status": {"observedGeneration": 1, "observedSlices": {each.name: GENERATION for each in slices}},
    }


async def with_many_statuses_to_write() -> Large:
    """A node has joined, and most of 300 statuses wait because each write takes a second."""
    large = Large()
    await large.start(nodes=2, routes=300)
    await large.settle()
    large.kube.seconds = 1.0
    large.join("n2")
    await large.write_next()
    return large


async def test_each_node_and_each_static_route_gets_a_turn_of_its_own(monkeypatch: Any) -> None:
    turns = Turns()

    class Counted(NodeStates):
        def __init__(self, *arguments: Any) -> None:
            turns.step()
            super().__init__(*arguments)

    monkeypatch.setattr("overlay_net.domain.routes.status.NodeStates", Counted)
    large = Large()
    await large.start(nodes=1000, routes=200)
    async with turns.counted():
        await asyncio.wait_for(large.settle(), 60)
    assert (turns.total, turns.longest) == (200, 1)
    assert await large.ready() == [1000] * 200


async def test_a_report_concerns_the_static_routes_that_it_names() -> None:
    large = Large()
    await large.start(nodes=3, routes=10)
    await large.settle()
    large.report("n1")
    assert await large.reconciler.reconcile(ROUTES) is None
    assert large.kube.written == []
    large.report("n1", failures=2)
    await large.write_next()
    assert sorted(large.kube.written) == ["r0000", "r0001"]
    assert await large.ready() == [2, 2, *[3] * 8]


async def test_the_first_changes_are_written_together_and_writes_take_a_tenth_of_the_time() -> None:
    large = Large()
    await large.start(nodes=2, routes=300)
    large.report("n1", has_slices=False)
    await large.settle()
    assert await large.ready() == [1] * 300
    large.kube.seconds = 0.1
    began = large.clock.now
    large.report("n1")
    await large.reconciler.reconcile(ROUTES)
    assert large.kube.written == [], "what follows in a moment joins this batch"
    again = await large.write_next()
    assert len(large.kube.written) == BATCH
    while again is not None:
        large.clock.now += again.after or 0.0
        again = await large.reconciler.reconcile(ROUTES)
    assert len(large.kube.written) == 300
    # The last batch is paid for later, the first seconds were before.
    assert large.clock.now - began >= (300 - BATCH) * 0.1 * 10 - IDLE
    assert await large.ready() == [2] * 300


async def test_nodes_that_join_are_counted_once_no_more_of_them_follow() -> None:
    large = Large(max_delay=1)
    await large.start(nodes=2, routes=3)
    await large.settle()
    for number in range(2, 7):
        large.join(f"n{number}")
        large.clock.now += 0.9
        again = await large.reconciler.reconcile(ROUTES)
        assert large.kube.written == []
        assert again is not None
        assert again.after is not None
        assert 0 < again.after <= 1
    large.clock.now += 0.1
    assert await large.reconciler.reconcile(ROUTES) is None
    assert await large.ready() == [7] * 3
    assert len(large.kube.written) == 3


async def test_the_first_report_of_an_agent_waits_for_those_of_others() -> None:
    large = Large(max_delay=1)
    await large.start(nodes=2, routes=3)
    large.caches.nodes.apply(WatchEvent("ADDED", raw_node("n2")))
    unreported = raw_overlay("n2", make_slices(large.caches.routes.values()))
    del unreported["status"]
    large.caches.overlays.apply(WatchEvent("ADDED", unreported))
    await large.settle()
    assert await large.ready() == [2] * 3
    large.report("n2")
    large.clock.now += 0.9
    await large.reconciler.reconcile(ROUTES)
    assert large.kube.written == []
    large.clock.now += 0.1
    await large.reconciler.reconcile(ROUTES)
    assert await large.ready() == [3] * 3


async def test_nodes_that_join_all_the_time_are_counted_after_thirty_seconds() -> None:
    large = Large(max_delay=1)
    await large.start(nodes=2, routes=1)
    await large.settle()
    began, number = large.clock.now, 2
    for writes in (1, 2):
        while len(large.kube.written) < writes:
            large.join(f"n{number}")
            number += 1
            large.clock.now += 0.5
            await large.reconciler.reconcile(ROUTES)
        assert writes * 30 <= large.clock.now - began <= writes * 31
        assert await large.ready() == [number]


async def test_what_fails_on_a_node_that_joins_does_not_wait_for_more_nodes() -> None:
    large = Large()
    await large.start(nodes=2, routes=3)
    await large.settle()
    large.caches.nodes.apply(WatchEvent("ADDED", raw_node("n2")))
    large.report("n2", failures=1)
    await large.write_next()
    assert large.kube.written == ["r0000"]
    large.kube.written.clear()
    large.caches.nodes.apply(WatchEvent("DELETED", raw_node("n2")))
    await large.write_next()
    assert large.kube.written == ["r0000"]


async def test_a_failure_and_its_end_do_not_wait_for_other_statuses() -> None:
    large = await with_many_statuses_to_write()
    for failures in (1, 0):
        large.kube.written.clear()
        large.report("n1", failures)
        assert 0 < large.due[-1] <= 5
        again = await large.write_next()
        assert large.kube.written == ["r0000"]
        assert again is not None
        assert again.after is not None
        assert again.after > 50, "the others still wait"


async def test_a_new_or_edited_static_route_does_not_wait_for_other_statuses() -> None:
    large = await with_many_statuses_to_write()
    for change in (
        large.kube.create(STATIC_ROUTES, raw_static_route("new", "10.9.9.0/24")),
        large.kube.merge_patch(STATIC_ROUTES, "r0299", {"metadata": {"generation": 2}, "spec": {"metric": 7}}),
    ):
        large.kube.written.clear()
        name = (await change)["metadata"]["name"]
        assert 0 < large.due[-1] <= 5
        await large.write_next()
        assert large.kube.written == [name]
        found = await large.kube.get(STATIC_ROUTES, name)
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]


async def test_a_status_is_not_written_twice_if_the_watch_lags() -> None:
    large = Large()
    await large.start(nodes=2, routes=1)
    await large.settle()
    events: list[WatchEvent] = []
    large.kube.subscribers[:] = [lambda _, event: events.append(event)]
    large.report("n1", failures=1)
    await large.write_next()
    large.clock.now += 3600
    large.reconciler.feed.mark_all()
    await large.reconciler.reconcile(ROUTES)
    assert large.kube.written == ["r0000"]
    for event in events:
        large.caches.routes.apply(event)
    await large.reconciler.reconcile(ROUTES)
    assert large.kube.written == ["r0000"]


async def test_a_status_that_another_client_has_changed_is_restored() -> None:
    large = Large()
    await large.start(nodes=2, routes=2)
    await large.settle()
    await large.kube.merge_patch(STATIC_ROUTES, "r0001", {"status": {"ready": 7}}, subresource="status")
    await large.settle()
    assert await large.ready() == [2, 2]


async def test_routes_that_a_node_cannot_read_do_not_wait_for_other_statuses() -> None:
    large = await with_many_statuses_to_write()
    for unknown in ("slice s-0 is missing", ""):
        large.kube.written.clear()
        large.report("n1", has_slices=not unknown, unknown=unknown)
        assert 0 < large.due[-1] <= 5
        await large.write_next()
        assert len(large.kube.written) == BATCH
        while large.reconciler.feed.index.changes.has(Priority.URGENT):
            await large.reconciler.reconcile(ROUTES)
