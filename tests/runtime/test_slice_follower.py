"""The follower of route slices in virtual time: what it reads, and what it keeps when sets change or reading fails."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from overlay_net.agent.slice_follower import LIST_TIMEOUT, MAX_SELECTED, SliceFollower
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.errors import ApiError, Expired, NotFound, Refused, Unavailable
from tests.fakes.kube import matches
from tests.fakes.route_slices import entry, raw_slice
from tests.runtime.conftest import Run


class Server:
    """Slices with their history. ``lists`` and ``watches`` are the selectors of the requests."""

    def __init__(self, *slices: JsonObject) -> None:
        self.objects = {each["metadata"]["name"]: each for each in slices}
        self.events: list[WatchEvent] = []
        self.lists: list[str | None] = []
        self.watches: list[str | None] = []
        self.open = 0
        self.list_error: Exception | None = None
        self.watch_error: Exception | None = None
        self.page = 100
        self.delay = 0.0
        """Seconds between two pages."""

    def put(self, raw: JsonObject) -> None:
        self._stamp(raw)
        self.objects[raw["metadata"]["name"]] = raw
        self.events.append(WatchEvent("MODIFIED", raw))

    def remove(self, name: str) -> None:
        self.events.append(WatchEvent("DELETED", self._stamp(self.objects.pop(name))))

    def _stamp(self, raw: JsonObject) -> JsonObject:
        raw["metadata"]["resourceVersion"] = str(10 + len(self.events))
        return raw

    def source(self, selector: str | None) -> "Source":
        return Source(self, selector)


class Source:
    def __init__(self, server: Server, selector: str | None) -> None:
        self._server = server
        self._selector = selector

    async def pages(self) -> AsyncGenerator[Listing, None]:
        server = self._server
        server.lists.append(self._selector)
        if server.list_error is not None:
            raise server.list_error
        # Both at one moment, as with a resourceVersion.
        found = [each for each in server.objects.values() if matches(each, self._selector)]
        server.events.clear()
        for start in range(0, max(len(found), 1), server.page):
            yield Listing(tuple(found[start : start + server.page]), "9")
            await asyncio.sleep(server.delay)

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        server = self._server
        server.watches.append(self._selector)
        server.open += 1
        try:
            for second in range(300):
                if server.watch_error is not None:
                    raise server.watch_error
                while server.events:
                    event = server.events.pop(0)
                    if matches(event.object, self._selector):
                        yield event
                if second % 60 == 30:
                    yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": resource_version}})
                await asyncio.sleep(1)
        finally:
            server.open -= 1


class Follower:
    def __init__(self, server: Server) -> None:
        self.changes = 0
        self.follower = SliceFollower(server.source, self._count)

    def _count(self) -> None:
        self.changes += 1

    def select(self, *names: str) -> None:
        self.follower.select(names)

    def is_awaited(self) -> bool:
        return self.follower.is_awaited

    @property
    def routes(self) -> dict[str, list[str]]:
        """The names of the StaticRoutes in each slice."""
        slices = self.follower.known().slices
        return {
            each.name: [entry.name for entry in each.content.entries]
            for found in slices.values()
            for each in found.values()
        }


@asynccontextmanager
async def following(server: Server) -> AsyncIterator[Follower]:
    made = Follower(server)
    task = asyncio.create_task(made.follower.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert server.open == 0


def one(name: str, *entries: str, generation: int = 1) -> JsonObject:
    return raw_slice(name, 0, *(entry(each, "10.1.0.0/16") for each in entries), generation=generation)


def test_one_watch_follows_the_slices_of_all_selected_sets(virtual_time: Run) -> None:
    async def main() -> None:
        server = Server(one("rs-1", "a"), one("rs-2", "b"), one("rs-3", "c"))
        async with following(server) as made:
            await asyncio.sleep(100)
            assert (server.lists, server.watches) == ([], []), "no set, no request"
            made.select("rs-2", "rs-1")
            assert made.is_awaited()
            await asyncio.sleep(0.1)
            assert not made.is_awaited()
            assert made.routes == {"rs-1-0": ["a"], "rs-2-0": ["b"]}
            server.put(one("rs-1", "a", "d", generation=2))
            server.put(one("rs-3", "e", generation=2))
            server.remove("rs-2-0")
            await asyncio.sleep(5)
            assert made.routes == {"rs-1-0": ["a", "d"]}
            assert made.follower.known().listed == {"rs-1", "rs-2"}
            assert (server.lists, server.watches) == (["iks.ibm.com/route-set in (rs-1,rs-2)"],) * 2

    virtual_time(main())


def test_other_sets_are_listed_again_and_meanwhile_what_was_read_stays(virtual_time: Run) -> None:
    async def main() -> None:
        server = Server(one("rs-1", "a"), one("rs-2", "b"))
        async with following(server) as made:
            made.select("rs-1")
            await asyncio.sleep(0.1)
            server.delay = 1
            made.select("rs-1", "rs-2")
            await asyncio.sleep(0.5)
            assert (made.routes, made.follower.known().listed) == ({"rs-1-0": ["a"]}, {"rs-1"})
            assert made.is_awaited()
            await asyncio.sleep(1)
            assert made.routes == {"rs-1-0": ["a"], "rs-2-0": ["b"]}
            made.select("rs-2")
            assert made.is_awaited(), "what was read may be older than the object"
            await asyncio.sleep(1.5)
            assert not made.is_awaited()
            assert made.routes == {"rs-2-0": ["b"]}
            made.select()
            await asyncio.sleep(2)
            assert (made.routes, made.follower.known().listed, server.open) == ({}, frozenset(), 0)

    virtual_time(main())


def test_a_list_replaces_the_one_before_only_when_it_is_complete(virtual_time: Run) -> None:
    """Else a StaticRoute that was moved while the watch was interrupted would be in no slice for a moment."""

    async def main() -> None:
        server = Server(one("rs-1", "moved"), one("rs-2"))
        async with following(server) as made:
            made.select("rs-1", "rs-2")
            await asyncio.sleep(0.1)
            seen = []
            made.follower._changed = lambda: seen.append(made.routes)
            server.page, server.delay, server.watch_error = 1, 1.0, Expired("410")
            server.put(one("rs-1", generation=2))
            server.put(one("rs-2", "moved", generation=2))
            await asyncio.sleep(1.5)
            server.watch_error = None
            await asyncio.sleep(10)
            assert seen == [{"rs-1-0": [], "rs-2-0": ["moved"]}]

    virtual_time(main())


@pytest.mark.parametrize("error", [Unavailable("down"), Refused("403 Forbidden"), NotFound("404")])
def test_errors_remove_nothing_and_lasting_ones_are_reported_once(virtual_time: Run, error: ApiError) -> None:
    async def main() -> None:
        server = Server(one("rs-1", "a"))
        async with following(server) as made:
            made.select("rs-1")
            await asyncio.sleep(10)
            before = made.changes
            server.list_error = server.watch_error = error
            await asyncio.sleep(3600)
            known = made.follower.known()
            assert (made.routes, known.listed) == ({"rs-1-0": ["a"]}, {"rs-1"})
            lasts = not isinstance(error, Unavailable)
            assert (known.problem, made.changes - before <= 2) == (error.message if lasts else "", True)
            server.list_error = server.watch_error = None
            await asyncio.sleep(100)
            assert made.follower.known().problem == ""

    virtual_time(main())


@pytest.mark.parametrize("error", [Unavailable("down"), Refused("403 Forbidden"), NotFound("404")])
def test_sets_that_were_never_read_are_awaited_for_a_moment_and_then_have_a_reason(
    virtual_time: Run, error: ApiError
) -> None:
    async def main() -> None:
        server = Server(one("rs-1", "a"))
        server.list_error = error
        async with following(server) as made:
            made.select("rs-1")
            await asyncio.sleep(LIST_TIMEOUT - 0.1)
            assert made.is_awaited()
            await asyncio.sleep(0.2)
            assert not made.is_awaited()
            assert (made.follower.known().listed, made.follower.known().problem) == (frozenset(), error.message)
            server.list_error = None
            await asyncio.sleep(10)
            assert (made.routes, made.follower.known().problem) == ({"rs-1-0": ["a"]}, "")

    virtual_time(main())


def test_a_watch_that_is_refused_is_one_problem_although_lists_succeed(virtual_time: Run) -> None:
    async def main() -> None:
        server = Server(one("rs-1", "a"))
        server.watch_error = Refused("403 Forbidden")
        async with following(server) as made:
            made.select("rs-1")
            await asyncio.sleep(10)
            problems = set()
            made.follower._changed = lambda: problems.add(made.follower.known().problem)
            await asyncio.sleep(3600)
            assert len(server.lists) > 10
            assert problems == {"403 Forbidden"}

    virtual_time(main())


@pytest.mark.parametrize("call", ["list_error", "watch_error"])
def test_an_unexpected_error_ends_the_agent_rather_than_what_it_follows(virtual_time: Run, call: str) -> None:
    async def main() -> None:
        server = Server(one("rs-1", "a"))
        setattr(server, call, RuntimeError("not foreseen"))
        made = Follower(server)
        made.select("rs-1")
        with pytest.raises(ExceptionGroup) as raised:
            await made.follower.run()
        assert [str(each) for each in raised.value.exceptions] == ["not foreseen"]

    virtual_time(main())


@pytest.mark.parametrize(("count", "selects"), [(MAX_SELECTED, True), (MAX_SELECTED + 1, False)])
def test_the_slices_of_very_many_sets_are_read_without_a_selector(virtual_time: Run, count: int, selects: bool) -> None:
    async def main() -> None:
        server = Server(*(one(f"rs-{number}", "a") for number in range(count)), one("other", "b"))
        async with following(server) as made:
            made.select(*(f"rs-{number}" for number in range(count)))
            await asyncio.sleep(0.1)
            server.put(one("other", "c", generation=2))
            await asyncio.sleep(5)
            assert len(made.routes) == count
            assert "other-0" not in made.routes
            assert (server.lists[0] is not None) == selects

    virtual_time(main())
