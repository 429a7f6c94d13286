"""The controller's slow resync in virtual time."""

import asyncio
from collections import Counter
from datetime import timedelta

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import Queues
from overlay_net.controller.resync import resync
from overlay_net.controller.status_reconciler import ROUTES
from overlay_net.model.api import Listing
from overlay_net.runtime.workqueue import WorkQueue
from tests.runtime.conftest import Run
from tests.unit.factories import raw_node, raw_pool

HOUR = 3600.0
NODES = [f"n{number}" for number in range(200)]


async def collect(name: str, queue: WorkQueue, found: list[tuple[float, str]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        key = await queue.get()
        found.append((loop.time(), f"{name}/{key}"))
        queue.done(key)


def test_everything_is_reconciled_once_per_interval_and_not_at_the_same_time(virtual_time: Run) -> None:
    found: list[tuple[float, str]] = []

    async def main() -> None:
        caches, queues = Caches(), Queues()
        caches.nodes.replace(Listing(tuple(map(raw_node, NODES)), "1"))
        caches.overlays.replace(Listing(({"metadata": {"name": "gone", "uid": "u"}},), "1"))
        caches.pools.replace(Listing((raw_pool("p1"), raw_pool("p2", "10.9.0.0/24", "10.9.0.1")), "1"))
        tasks = [asyncio.create_task(collect(name, queue, found)) for name, queue in queues.by_name.items()]
        tasks.append(
            asyncio.create_task(resync(caches, queues, timedelta(hours=10), lambda: queues.status.add(ROUTES)))
        )
        await asyncio.sleep(30 * HOUR + 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time(main())
    expected = {*(f"node/{name}" for name in (*NODES, "gone")), "pool/p1", "pool/p2", "status/routes"}
    counts = Counter(key for _, key in found)
    assert {key: counts[key] for key in expected} == dict.fromkeys(expected, 3)
    per_minute = Counter((int(time // 60)) for time, key in found if key.startswith("node/"))
    assert max(per_minute.values()) < len(NODES) / 5
