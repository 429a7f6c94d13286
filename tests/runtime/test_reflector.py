"""The reflector in virtual time: backoff against a server that fails for hours, and a server whose store went back."""

import asyncio
import logging
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.errors import ApiError, Expired, NotFound, Unavailable
from overlay_net.runtime.reflector import LONGEST_PAUSE, Reflector
from overlay_net.runtime.store import Store
from tests.fakes.turns import Turns
from tests.runtime.conftest import Run


class FailingSource:
    """Lists one object, and ends every watch at once, with an error if given."""

    def __init__(self, error: ApiError | None, *, list_error: ApiError | None = None) -> None:
        self.error = error
        self.list_error = list_error
        self.times: list[float] = []

    async def pages(self) -> AsyncGenerator[Listing, None]:
        self.times.append(asyncio.get_running_loop().time())
        if self.list_error is not None:
            raise self.list_error
        yield Listing(({"metadata": {"name": "a", "resourceVersion": "1"}},), "1")

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


@pytest.mark.parametrize("refused", ["everything", "watches"])
def test_retry_after_is_respected(virtual_time: Run, refused: str) -> None:
    busy = Unavailable("busy", retry_after=300)
    source = FailingSource(busy, list_error=busy if refused == "everything" else None)

    async def main() -> None:
        task = asyncio.create_task(Reflector(source, Store(dict)).run())
        await asyncio.sleep(HOUR)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time(main())
    # After a silence of minutes each watch is preceded by a list.
    attempts = source.times if refused == "everything" else source.times[::2]
    assert len(attempts) <= 14


class Server:
    """A store of objects with its history; ``restore`` puts it back to an earlier state."""

    def __init__(self) -> None:
        self.version = 10
        self.objects: dict[str, JsonObject] = {}
        self.events: list[WatchEvent] = []
        self.lists = 0
        self.silent = False
        """Watches deliver nothing, as those from a version that the server has not reached."""
        self.down = False
        self.page = 100

    def put(self, name: str, **fields: Any) -> None:
        self.version += 1
        known = name in self.objects
        metadata = {"name": name, "uid": name, "generation": 1, "resourceVersion": str(self.version)}
        self.objects[name] = {"metadata": metadata, **fields}
        self.events.append(WatchEvent("MODIFIED" if known else "ADDED", self.objects[name]))

    def bookmark(self) -> None:
        self.events.append(WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}}))

    def restore(self, version: int, objects: dict[str, JsonObject]) -> None:
        self.version, self.objects, self.events = version, dict(objects), []

    async def pages(self) -> AsyncGenerator[Listing, None]:
        self._reach()
        self.lists += 1
        items, version = list(self.objects.values()), str(self.version)
        for start in range(0, max(len(items), 1), self.page):
            await asyncio.sleep(0)
            yield Listing(tuple(items[start : start + self.page]), version)

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        self._reach()
        loop = asyncio.get_running_loop()
        end = loop.time() + 150
        while loop.time() < end:
            self._reach()
            while self.events and not self.silent:
                yield self.events.pop(0)
            await asyncio.sleep(1)
        if self.silent:
            raise Unavailable("timeout on reading data from socket")

    def _reach(self) -> None:
        if self.down:
            raise Unavailable("connection refused")


@asynccontextmanager
async def followed(server: Server, **options: Any) -> AsyncIterator[tuple[Store[JsonObject], list[Any]]]:
    """The store, and the changes that its subscribers were notified of, by the field ``value``."""
    store: Store[JsonObject] = Store(dict)
    changes: list[Any] = []
    store.subscribe(lambda name, old, new: changes.append((name, old and old["value"], new and new["value"])))
    task = asyncio.create_task(Reflector(server, store, **options).run())
    await store.wait_synced()
    yield store, changes
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_resumed_watch_is_identified_by_the_error_that_interrupted_it(
    virtual_time: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        server = Server()
        async with followed(server):
            server.down = True
            await asyncio.sleep(60)
            server.down = False
            server.put("a", value="new")
            await asyncio.sleep(60)

    virtual_time(main())
    (resumed,) = [vars(record) for record in caplog.records if record.message == "watch resumed"]
    assert resumed["after"] == "connection refused"


@pytest.mark.parametrize("sent", [Server.bookmark, lambda server: server.put("b", value="new")])
def test_a_resource_version_that_goes_back_in_a_watch_causes_a_list(
    virtual_time: Run, sent: Callable[[Server], None]
) -> None:
    async def main() -> None:
        server = Server()
        server.put("a", value="old")
        backup = dict(server.objects)
        async with followed(server) as (store, _):
            for number in range(5):
                server.put("a", value=f"lost {number}")
            await asyncio.sleep(2)
            server.restore(11, backup)
            sent(server)
            await asyncio.sleep(10)
            assert {name: store.get(name) for name in store.names()} == server.objects
            assert server.lists == 2

    virtual_time(main())


@pytest.mark.parametrize("how", ["silence", "outage"])
def test_after_a_silence_everything_is_listed_again(virtual_time: Run, how: str) -> None:
    async def main() -> None:
        server = Server()
        server.put("a", value="old")
        async with followed(server) as (store, _):
            await asyncio.sleep(5)
            server.silent, server.down = how == "silence", how == "outage"
            # The history is another one, and has reached a later version than the one that was watched.
            server.restore(50, {})
            server.put("b", value="new")
            server.events.clear()
            await asyncio.sleep(140)
            server.down = False
            await asyncio.sleep(30)
            assert list(store.names()) == ["b"]

    virtual_time(main())


def test_bookmarks_count_as_activity(virtual_time: Run) -> None:
    async def main() -> None:
        server = Server()
        server.put("a", value="old")
        async with followed(server):
            for _ in range(60):
                server.bookmark()
                await asyncio.sleep(60)
            assert server.lists == 1

    virtual_time(main())


def test_after_its_store_went_back_an_object_with_the_same_version_counts_as_another_one(virtual_time: Run) -> None:
    async def main() -> None:
        server = Server()
        server.put("a", value="old")
        server.put("b", value="kept")
        backup = dict(server.objects)
        async with followed(server) as (store, changes):
            server.put("a", value="lost")
            server.put("b", value="lost")
            await asyncio.sleep(2)
            server.restore(12, backup)
            # Its resourceVersion, uid and generation are those of the lost write.
            server.put("a", value="new")
            changes.clear()
            await asyncio.sleep(10)
            assert changes == [("a", "lost", None), ("a", None, "new"), ("b", "lost", None), ("b", None, "kept")]
            assert {name: store.get(name) for name in store.names()} == server.objects

    virtual_time(main())


def test_everything_is_listed_from_time_to_time_even_if_no_watch_failed(virtual_time: Run) -> None:
    async def main() -> None:
        server = Server()
        server.put("a", value="old")
        async with followed(server, relist=HOUR) as (store, _):
            server.objects = {"b": server.objects["a"] | {"metadata": {"name": "b", "resourceVersion": "11"}}}
            times = 0
            while list(store.names()) != ["b"]:
                server.bookmark()
                await asyncio.sleep(60)
                times += 1
            assert 0.9 * 60 <= times <= 1.1 * 60 + 3
            assert server.lists == 2

    virtual_time(main())


class Raw(dict[str, Any]):
    """An object that can be referenced weakly."""


async def test_at_most_one_page_of_unparsed_objects_is_in_memory() -> None:
    alive: list[weakref.ref[Raw]] = []
    most = []

    class Pages:
        async def pages(self) -> AsyncGenerator[Listing, None]:
            for page in range(10):
                found = [Raw(metadata={"name": f"{page}-{number}"}) for number in range(20)]
                alive.extend(map(weakref.ref, found))
                listing = Listing(tuple(found), "1")
                del found
                most.append(sum(ref() is not None for ref in alive))
                yield listing
                del listing

        async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
            await asyncio.sleep(3600)
            yield WatchEvent("BOOKMARK", {})

    store: Store[str] = Store(lambda raw: str(raw["metadata"]["name"]))
    task = asyncio.create_task(Reflector(Pages(), store).run())
    await store.wait_synced()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(store) == 200
    assert max(most) == 20


@pytest.mark.parametrize("by", ["list", "watch"])
async def test_the_event_loop_has_a_turn_after_each_object(by: str) -> None:
    server, turns = Server(), Turns()
    for number in range(500):
        server.put(str(number))
    if by == "watch":
        # The list precedes them.
        server.objects.clear()
        server.version = 10
    else:
        server.events.clear()
    store: Store[JsonObject] = Store(dict)
    store.subscribe(lambda *_: turns.step())
    async with turns.counted():
        task = asyncio.create_task(Reflector(server, store).run())
        while turns.total < 500:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert turns.longest == 1
