"""Cancellation at any await: the runtime stops at once, loses no key and leaves no task running."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from overlay_net.model.api import Listing, WatchEvent
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import Requeue, run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.runtime.conftest import Run


@pytest.mark.parametrize("turns", range(12))
def test_a_cancelled_getter_loses_no_key(virtual_time: Run, turns: int) -> None:
    async def main() -> None:
        queue = WorkQueue()
        first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        first.cancel()
        results = await asyncio.gather(first, asyncio.wait_for(second, 1), return_exceptions=True)
        got = [result for result in results if result == "a"]
        assert got == ["a"], "exactly one getter has it"

    virtual_time(main())


@pytest.mark.parametrize("turns", range(15))
def test_a_cancelled_worker_releases_its_key(virtual_time: Run, turns: int) -> None:
    async def main() -> None:
        queue = WorkQueue()
        started = []

        async def reconcile(key: str) -> Requeue | None:
            started.append(key)
            for _ in range(5):
                await asyncio.sleep(0)
            return None

        queue.add("a")
        task = asyncio.create_task(run_workers("test", queue, reconcile, workers=2))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.done()
        queue.add("a")
        assert await asyncio.wait_for(queue.get(), 1) == "a", "no worker holds the key"

    virtual_time(main())


@pytest.mark.parametrize("turns", range(15))
def test_a_cancelled_reflector_closes_its_stream(virtual_time: Run, turns: int) -> None:
    async def main() -> None:
        opened, closed = 0, 0

        class Source:
            async def pages(self) -> AsyncGenerator[Listing, None]:
                await asyncio.sleep(0)
                yield Listing((), "1")

            async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
                nonlocal opened, closed
                opened += 1
                try:
                    while True:
                        await asyncio.sleep(0)
                        yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "2"}})
                finally:
                    closed += 1

        store: Store[object] = Store(dict)
        task = asyncio.create_task(Reflector(Source(), store).run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert opened == closed

    virtual_time(main())
