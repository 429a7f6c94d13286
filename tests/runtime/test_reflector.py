"""The backoff of the reflector in virtual time, against a server that fails for hours."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

import pytest

from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.errors import ApiError, Expired, NotFound, Unavailable
from overlay_net.runtime.reflector import LONGEST_PAUSE, Reflector
from overlay_net.runtime.store import Store
from tests.runtime.conftest import Run


class FailingSource:
    """Lists one object, and ends every watch at once, with an error if given."""

    def __init__(self, error: ApiError | None, *, list_error: ApiError | None = None) -> None:
        self.error = error
        self.list_error = list_error
        self.times: list[float] = []

    async def list(self) -> Listing:
        self.times.append(asyncio.get_running_loop().time())
        if self.list_error is not None:
            raise self.list_error
        return Listing(({"metadata": {"name": "a", "resourceVersion": "1"}},), "1")

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        self.times.append(asyncio.get_running_loop().time())
        if self.error is not None:
            raise self.error
        nothing: tuple[WatchEvent, ...] = ()
        for event in nothing:
            yield event


HOUR = 3600.0


@pytest.mark.parametrize("error", [None, Expired("410"), Unavailable("500"), NotFound("404")])
def test_failing_watches_cause_few_requests_and_lose_no_object(virtual_time: Run, error: ApiError | None) -> None:
    source = FailingSource(error)

    async def main() -> None:
        store: Store[JsonObject] = Store(dict)
        task = asyncio.create_task(Reflector(source, store).run())
        await asyncio.sleep(HOUR)
        assert not task.done()
        assert store.get("a") is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time(main())
    # The pause grows to four to eight seconds; after Expired there are two requests, a list and a watch.
    assert 400 < len(source.times) < 1900
    assert len([time for time in source.times if time < 10]) < 20, "also at the start"


def test_the_store_is_unsynced_while_its_kind_does_not_exist(virtual_time: Run) -> None:
    source = FailingSource(None, list_error=NotFound("no such resource"))

    async def main() -> None:
        store: Store[JsonObject] = Store(dict)
        task = asyncio.create_task(Reflector(source, store).run())
        await asyncio.sleep(HOUR)
        assert not store.synced
        source.list_error = None
        await asyncio.wait_for(store.wait_synced(), LONGEST_PAUSE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time(main())


def test_clients_that_failed_together_reconnect_spread_within_the_longest_pause(virtual_time: Run) -> None:
    sources = [FailingSource(None, list_error=Unavailable("connection refused")) for _ in range(200)]

    async def main() -> None:
        stores: list[Store[JsonObject]] = [Store(dict) for _ in sources]
        tasks = [
            asyncio.create_task(Reflector(source, store).run()) for source, store in zip(sources, stores, strict=True)
        ]
        await asyncio.sleep(HOUR)
        for source in sources:
            source.list_error = None
            source.times.clear()
        await asyncio.wait_for(asyncio.gather(*(store.wait_synced() for store in stores)), LONGEST_PAUSE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time(main())
    reconnected = Counter(int(source.times[0]) for source in sources)
    assert max(reconnected.values()) < len(sources) / 2, "most reconnected in the same second"


def test_retry_after_is_respected(virtual_time: Run) -> None:
    source = FailingSource(Unavailable("busy", retry_after=300))

    async def main() -> None:
        task = asyncio.create_task(Reflector(source, Store(dict)).run())
        await asyncio.sleep(HOUR)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time(main())
    assert len(source.times) <= 14
