"""Nodes of thousands of machines as kubelets write them: 20 kB each, with images and the times of heartbeats."""

import asyncio
import gc
import json
import tracemalloc
from typing import Any

import aiohttp
from aiohttp import web

from overlay_net.adapters.kube import Connection, KubeApi, KubeSource
from overlay_net.adapters.kube.rest import PAGE
from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import EventRoutes, Queues
from overlay_net.controller.observed_times import ObservedTimes
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.names import NODES
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.workqueue import WorkQueue
from tests.fakes.misbehaving_api import MisbehavingApi, serving
from tests.runtime.conftest import Run
from tests.unit.factories import raw_node

MIB = 2**20
BATCH = 10.0


def large_node(name: str, heartbeat: str = "2026-01-01T00:00:00Z", version: str = "1", **labels: Any) -> JsonObject:
    raw = raw_node(name, **labels)
    raw["metadata"]["resourceVersion"] = version
    images = [{"names": [f"registry.example.com/team/image-{n}@sha256:{n:064x}"], "sizeBytes": n} for n in range(120)]
    conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat, "message": "kubelet is ready"}]
    addresses = [{"type": "InternalIP", "address": "10.176.0.9"}]
    raw["status"] |= {"images": images, "conditions": conditions, "addresses": addresses}
    fields = [{"manager": f"manager-{n}", "fieldsV1": {f"f:label-{k}": {} for k in range(20)}} for n in range(10)]
    raw["metadata"]["managedFields"] = fields
    return raw


TEMPLATE = json.dumps(large_node("NAME"))


class ManyNodes(MisbehavingApi):
    """Serves ``count`` Nodes in pages, each rendered beforehand: what a request takes is the client's memory."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.bodies = {start: self._render(start, count) for start in range(0, count, PAGE)}

    @staticmethod
    def _render(start: int, count: int) -> bytes:
        end = min(start + PAGE, count)
        items = ",".join(TEMPLATE.replace("NAME", f"node-{number}") for number in range(start, end))
        metadata = {"resourceVersion": "100", "continue": str(end) if end < count else ""}
        return f'{{"metadata": {json.dumps(metadata)}, "items": [{items}]}}'.encode()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            await asyncio.sleep(3600)
        assert int(request.query["limit"]) == PAGE
        body = self.bodies[int(request.query.get("continue", "0"))]
        return web.Response(body=body, content_type="application/json")


async def anonymous(_: bool) -> None:
    return None


async def memory_to_list(count: int) -> tuple[int, int]:
    """The bytes that the caches have after the list of ``count`` Nodes, and the bytes in use beyond that meanwhile."""
    caches = Caches()
    async with serving(ManyNodes(count)) as api, aiohttp.ClientSession() as session:
        source = KubeSource(KubeApi(Connection(api.url, session, anonymous)), NODES)
        gc.collect()
        tracemalloc.start()
        try:
            task = asyncio.create_task(Reflector(source, caches.nodes).run())
            await caches.nodes.wait_synced()
            _, peak = tracemalloc.get_traced_memory()
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert len(caches.nodes) == count
    return kept, peak - kept


async def test_a_list_of_large_nodes_takes_memory_for_two_pages_whatever_their_number() -> None:
    assert len(TEMPLATE) > 20_000
    _, few = await memory_to_list(200)
    kept, many = await memory_to_list(600)
    assert many < 1.2 * few
    assert kept < 600 * 8192, "images and managed fields are not kept"


def test_heartbeats_enqueue_nothing(virtual_time: Run) -> None:
    found: list[str] = []

    async def collect(name: str, queue: WorkQueue) -> None:
        while True:
            key = await queue.get()
            found.append(f"{name}/{key}")
            queue.done(key)

    async def main() -> None:
        caches, queues = Caches(), Queues()
        for store in caches.stores:
            store.replace(Listing((), "0"))
        EventRoutes(caches, queues, BATCH)
        ObservedTimes(caches)
        tasks = [asyncio.create_task(collect(name, queue)) for name, queue in queues.by_name.items()]

        async def receive(*nodes: JsonObject) -> list[str]:
            found.clear()
            for raw in nodes:
                caches.nodes.apply(WatchEvent("MODIFIED", raw))
            await asyncio.sleep(3 * BATCH)
            return found

        names = [f"node-{number}" for number in range(20)]
        assert await receive(*map(large_node, names))
        assert await receive(*(large_node(name, "2026-01-01T00:00:10Z", "2") for name in names)) == []
        assert "node/node-1" in await receive(large_node("node-1", version="3", tier="db"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time(main())
