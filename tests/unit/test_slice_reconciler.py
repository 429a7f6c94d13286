"""Writing slices: at once, together with what changes meanwhile, and never from an outdated view."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import SLICES, EventRoutes, Queues
from overlay_net.controller.slice_reconciler import SliceReconciler
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.errors import Unavailable
from overlay_net.model.names import OVERLAY_ROUTE_SLICES, STATIC_ROUTES, Resource
from overlay_net.runtime.worker import Requeue, run_workers
from tests.fakes.kube import InMemoryKube
from tests.unit.factories import raw_node, raw_static_route


class Setup:
    """A controller's slices, with watches that deliver at once unless ``lags``."""

    def __init__(self) -> None:
        self.kube: Any = InMemoryKube()
        self.caches = Caches()
        self.caches.protected.set_unknown("")
        self.lags = False
        self.written: list[str] = []
        """The StaticRoutes in the slice after each write."""
        for store in self.caches.stores:
            store.replace(Listing((), "0"))
        self.caches.nodes.replace(Listing((raw_node("n1"),), "0"))
        self.kube.subscribers.append(self._watched)

    def _watched(self, resource: Resource, event: WatchEvent) -> None:
        if resource == OVERLAY_ROUTE_SLICES:
            entries = event.object["spec"].get("staticRoutes", [])
            self.written.append(" ".join(each["name"] for each in entries))
            if not self.lags:
                self.caches.slices.apply(event)
        elif resource == STATIC_ROUTES:
            self.caches.routes.apply(event)

    async def add(self, *names: str) -> None:
        for name in names:
            await self.kube.create(STATIC_ROUTES, raw_static_route(name, f"10.{name[1:]}.0.0/16"))

    def reconciler(self, **options: Any) -> SliceReconciler:
        return SliceReconciler(self.kube, self.caches, **{"seconds_per_node": 0, **options})

    async def slice(self) -> JsonObject:
        (found,) = (await self.kube.list(OVERLAY_ROUTE_SLICES)).items
        content: JsonObject = found
        return content


@pytest.fixture
async def setup() -> Setup:
    return Setup()


async def test_the_first_change_is_written_at_once_and_later_ones_together(setup: Setup) -> None:
    queues = Queues()
    EventRoutes(setup.caches, queues, batch=3600)
    # A node costs a pause of 0.2 s here.
    worker = asyncio.create_task(
        run_workers("slice", queues.slices, setup.reconciler(seconds_per_node=0.2).reconcile, workers=1)
    )
    setup.caches.overlays.apply(WatchEvent("ADDED", {"metadata": {"name": "n1", "uid": "n1", "resourceVersion": "1"}}))
    try:
        await setup.add("r1")
        while not setup.written:
            await asyncio.sleep(0)
        assert setup.written == ["r1"]
        for number in range(2, 20):
            await setup.add(f"r{number}")
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            while len(setup.written) < 2:
                await asyncio.sleep(0.01)
        assert [len(each.split()) for each in setup.written] == [1, 19]
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_a_slice_that_another_process_has_changed_is_not_overwritten_from_an_outdated_view(setup: Setup) -> None:
    await setup.add("r1")
    reconciler = setup.reconciler()
    await reconciler.reconcile(SLICES)
    setup.lags = True
    name = (await setup.slice())["metadata"]["name"]
    await setup.kube.merge_patch(OVERLAY_ROUTE_SLICES, name, {"metadata": {"annotations": {"note": "edited"}}})
    await setup.add("r2")
    assert await reconciler.reconcile(SLICES) == Requeue(), "it is planned again once the watch has delivered"
    assert (await setup.slice())["metadata"]["annotations"] == {"note": "edited"}
    setup.caches.slices.replace(await setup.kube.list(OVERLAY_ROUTE_SLICES))
    await reconciler.reconcile(SLICES)
    assert setup.written[-1] == "r1 r2"


async def test_a_late_watch_does_not_delay_the_next_change(setup: Setup) -> None:
    setup.lags = True
    reconciler = setup.reconciler()
    for name in ("r1", "r2", "r3"):
        await setup.add(name)
        assert await reconciler.reconcile(SLICES) is None
    assert setup.written == ["r1", "r1 r2", "r1 r2 r3"]


async def test_a_new_leader_continues_from_the_slices(setup: Setup) -> None:
    await setup.add("r1", "r2")
    await setup.reconciler().reconcile(SLICES)
    await setup.reconciler().reconcile(SLICES)
    assert setup.written == ["r1 r2"], "nothing is written again"
    assert setup.caches.route_sets.sets.settled


class Unreachable(InMemoryKube):
    async def create(self, *_: Any, **__: Any) -> JsonObject:
        raise Unavailable("no answer")


async def test_nodes_are_reconciled_although_slices_cannot_be_written_and_keep_what_they_have(setup: Setup) -> None:
    setup.kube = Unreachable()
    setup.caches.routes.apply(WatchEvent("ADDED", raw_static_route("r1", "10.1.0.0/16")))
    await setup.reconciler().prepare()
    (node,) = setup.caches.nodes.values()
    found = setup.caches.route_sets.find(node, None, {}, datetime.now(UTC))
    assert (found.named, found.complete) == (None, False)
