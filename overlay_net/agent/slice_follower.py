"""Follows the OverlayRouteSlices of the route sets of this node: one list and one watch for all of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Set
from contextlib import aclosing
from typing import Final, TypeAlias

from overlay_net.domain.routes.node_routes import KnownSlices
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.errors import NotFound, OverlayNetError, Refused
from overlay_net.model.names import ROUTE_SET_LABEL
from overlay_net.model.parse import find_name
from overlay_net.model.route_slice import RouteSlice, by_set
from overlay_net.runtime.reflector import Reflector, Source

MAX_SELECTED: Final = 100
"""Number of sets above which all slices are read, as a selector of more names would be too long for a URL."""

LIST_TIMEOUT: Final = 2.0
"""Seconds that the list of other route sets is waited for."""

SliceSource: TypeAlias = Callable[[str | None], Source]
"""Returns the source of the slices with a label selector; None: of all."""

ParseSlice: TypeAlias = Callable[[JsonObject, RouteSlice | None], RouteSlice]

_Observer: TypeAlias = Callable[[OverlayNetError | None], None]


class SliceFollower:
    """``changed`` is called when anything that ``known`` returns may have changed. Errors remove no slice.

    ``parse`` parses a slice and may reuse parts of an earlier version.
    """

    def __init__(self, source: SliceSource, changed: Callable[[], None], parse: ParseSlice = RouteSlice.parse) -> None:
        self._source = source
        self._changed = changed
        self._cache = _SliceCache(self._cache_changed, parse)
        self._names: frozenset[str] = frozenset()
        self._reselected = asyncio.Event()
        self._list_problem = ""
        self._watch_problem = ""
        self._give_up_at = 0.0
        self.version = 0
        """Increases whenever anything that ``known`` returns may have changed."""

    @property
    def is_awaited(self) -> bool:
        """Return whether other sets were selected, and their list may be complete soon.

        Also if fewer sets were selected: what one of them lacks may have come into another one of which only an earlier
        version was read.
        """
        return self._cache.listed != self._names and asyncio.get_running_loop().time() < self._give_up_at

    @property
    def _is_listed(self) -> bool:
        return self._names <= self._cache.listed

    def known(self) -> KnownSlices:
        problem = self._list_problem or self._watch_problem
        return KnownSlices(by_set(self._cache.slices.values()), self._cache.listed, problem)

    def select(self, names: Collection[str]) -> None:
        """Follow the slices of these sets; of none, there are no requests. Needs a running event loop."""
        selected = frozenset(names)
        if selected == self._names:
            return
        self._names = selected
        self._give_up_at = asyncio.get_running_loop().time() + LIST_TIMEOUT
        self._reselected.set()

    async def run(self) -> None:
        """Follow the selected sets until cancelled."""
        while True:
            self._reselected.clear()
            # What was read for other sets stays until a list of these is complete.
            self._cache.names = self._names
            if self._names:
                await self._follow(_selector(self._names))
            else:
                self._cache.complete(frozenset(), "")
                await self._reselected.wait()

    async def _follow(self, selector: str | None) -> None:
        """Follow the slices with these labels until other sets are selected."""
        source = _ObservedSource(self._source(selector), self._list_failed, self._watch_failed)
        # An unexpected error must end the agent: otherwise the slices would not be followed any more.
        async with asyncio.TaskGroup() as group:
            following = group.create_task(Reflector(source, self._cache).run())
            await self._reselected.wait()
            following.cancel()

    def _list_failed(self, error: OverlayNetError | None) -> None:
        # Other errors pass, and slices that were read are no worse than an object whose watch fails.
        if error is None or not self._is_listed or isinstance(error, _LASTING):
            self._set_problems(error.message if error is not None else "", self._watch_problem)

    def _watch_failed(self, error: OverlayNetError | None) -> None:
        if error is None or isinstance(error, _LASTING):
            self._set_problems(self._list_problem, error.message if error is not None else "")

    def _set_problems(self, list_problem: str, watch_problem: str) -> None:
        if (list_problem, watch_problem) != (self._list_problem, self._watch_problem):
            self._list_problem, self._watch_problem = list_problem, watch_problem
            self._cache_changed()

    def _cache_changed(self) -> None:
        self.version += 1
        self._changed()


_LASTING: Final = (NotFound, Refused)
"""Errors that last: the kind does not exist, or this agent may not read it."""


def _selector(names: Set[str]) -> str | None:
    return f"{ROUTE_SET_LABEL} in ({','.join(sorted(names))})" if len(names) <= MAX_SELECTED else None


class _SliceCache:
    """The slices of one list, and their changes since.

    A list replaces the one before at once: between two of its pages a StaticRoute that has moved would be in neither of
    its slices.
    """

    def __init__(self, changed: Callable[[], None], parse: ParseSlice) -> None:
        self.slices: Mapping[str, RouteSlice] = {}
        self.listed: frozenset[str] = frozenset()
        """The sets of the last complete list."""
        self.names: frozenset[str] = frozenset()
        """The sets of the next list, and of changes."""
        self._changed = changed
        self._parse = parse
        self._listing: dict[str, RouteSlice] = {}

    def set(self, raw: JsonObject) -> str:
        """Add a slice to the present list. Returns its name."""
        found = self._parse(raw, self.slices.get(find_name(raw)))
        if found.route_set in self.names:
            self._listing[found.name] = found
        return found.name

    def complete(self, names: Set[str], version: str) -> None:
        """End the list. One that failed earlier may have left slices that are not among the ``names``."""
        self.slices = {name: found for name, found in self._listing.items() if name in names}
        self.listed = self.names
        self._listing = {}
        self._changed()

    def apply(self, event: WatchEvent) -> None:
        if event.type == "BOOKMARK":
            return
        name = find_name(event.object)
        before = self.slices.get(name)
        others = {key: found for key, found in self.slices.items() if key != name}
        found = self._parse(event.object, before)
        is_kept = event.type != "DELETED" and found.route_set in self.names
        if is_kept or before is not None:
            self.slices = {**others, name: found} if is_kept else others
            self._changed()

    def discard_versions(self) -> None:
        """Do nothing: a list does not compare the versions of slices."""


class _ObservedSource:
    """Calls ``listed`` after each list and ``watched`` after each event, with an error if there was one."""

    def __init__(self, source: Source, listed: _Observer, watched: _Observer) -> None:
        self._source = source
        self._listed = listed
        self._watched = watched

    async def pages(self) -> AsyncGenerator[Listing, None]:
        try:
            async with aclosing(self._source.pages()) as pages:
                async for page in pages:
                    yield page
                    del page
        except OverlayNetError as error:
            self._listed(error)
            raise
        self._listed(None)

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        try:
            async with aclosing(self._source.watch(resource_version)) as events:
                async for event in events:
                    self._watched(None)
                    yield event
                    del event
        except OverlayNetError as error:
            self._watched(error)
            raise
