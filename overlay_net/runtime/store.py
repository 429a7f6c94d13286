"""A cache of the parsed objects of one kind, with subscribers for changes.

``synced`` distinguishes an empty store from one that has not been filled yet.
"""

import asyncio
import builtins
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

from overlay_net.model.api import JsonObject, Listing, WatchEvent, is_older
from overlay_net.model.parse import find_name, find_version

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    resource_version: str
    value: T


class Store(Generic[T]):
    """Keyed by the object's name, as all stored kinds are cluster-scoped."""

    def __init__(self, parse: Callable[[JsonObject], T], reparse: Callable[[JsonObject, T], T] | None = None) -> None:
        """``reparse`` parses a new version of a cached object and may reuse parts of the cached one."""
        self._parse = parse
        self._reparse = reparse
        self._entries: dict[str, _Entry[T]] = {}
        self._discarded: builtins.set[str] = set()
        """Names of the objects whose versions must not be compared with later ones."""
        self._version = ""
        """The resourceVersion that the watch has reached."""
        self._subscribers: list[Callable[[str, T | None, T | None], None]] = []
        self._synced = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def synced(self) -> bool:
        """Return whether a complete list has been read."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def get(self, name: str) -> T | None:
        entry = self._entries.get(name)
        return None if entry is None else entry.value

    def names(self) -> Iterator[str]:
        return iter(tuple(self._entries))

    def values(self) -> Iterator[T]:
        return (entry.value for entry in tuple(self._entries.values()))

    def subscribe(self, subscriber: Callable[[str, T | None, T | None], None]) -> None:
        """Call ``subscriber(name, old, new)`` after each change; None if the object did not or does not exist.

        A version that parses to an equal value is no change, such as a heartbeat of a Node.
        """
        self._subscribers.append(subscriber)

    def replace(self, listing: Listing) -> None:
        """Replace the contents by a complete list; objects that are not in it are removed."""
        self.complete({self.set(item) for item in listing.items}, listing.resource_version)

    def apply(self, event: WatchEvent) -> None:
        name, self._version = find_name(event.object), find_version(event.object)
        present = self._entries.get(name)
        if event.type == "BOOKMARK" or (present is not None and is_older(self._version, present.resource_version)):
            # Older than the response to a write of this process.
            return
        if event.type == "DELETED":
            self._remove(name)
        else:
            self.set(event.object)

    def add_written(self, raw: JsonObject) -> None:
        """Add the object that the API server returned for a write of this process, ahead of the watch.

        Does nothing once the watch has reached this version: the object may have changed or gone since.
        """
        if self._is_news(find_name(raw), find_version(raw)):
            self.set(raw)

    def replace_written(self, name: str, version: str, value: T) -> None:
        """Replace an object by what a write of this process made of it, as ``add_written`` does."""
        if self._is_news(name, version):
            self._put(name, version, value)

    def set(self, raw: JsonObject) -> str:
        """Add the object or this version of it. Returns its name."""
        name, version = find_name(raw), find_version(raw)
        if name in self._discarded:
            self._discarded.discard(name)
            self._remove(name)
        old = self._entries.get(name)
        if old is not None and old.resource_version == version:
            return name
        value = self._parse(raw) if old is None or self._reparse is None else self._reparse(raw, old.value)
        self._put(name, version, value)
        return name

    def complete(self, names: Set[str], version: str) -> None:
        """End a list at the resourceVersion ``version`` with these ``names``: all other objects are removed."""
        self._version = version
        for name in [name for name in self._entries if name not in names]:
            self._remove(name)
        self._synced.set()

    def discard_versions(self) -> None:
        """Treat the next version of each object as a new object, because resource versions and generations repeat."""
        self._discarded = set(self._entries)

    def _is_news(self, name: str, version: str) -> bool:
        """Return whether neither the watch nor an unfinished list has brought this version or a later one."""
        present = self._entries.get(name)
        is_outdated = present is not None and is_older(version, present.resource_version)
        return is_older(self._version, version) and not is_outdated

    def _put(self, name: str, version: str, value: T) -> None:
        old = self._entries.get(name)
        if old is not None and old.value == value:
            self._entries[name] = _Entry(version, old.value)
            return
        self._entries[name] = _Entry(version, value)
        self._notify(name, None if old is None else old.value, value)

    def _remove(self, name: str) -> None:
        old = self._entries.pop(name, None)
        if old is not None:
            self._notify(name, old.value, None)

    def _notify(self, name: str, old: T | None, new: T | None) -> None:
        for subscriber in self._subscribers:
            subscriber(name, old, new)
