"""The parsed objects of one kind, as the API server last told them, and who wants to know of changes.

A store that was never filled says so (``synced``): an empty store and an unknown one must not be confused.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.parse import find_object, parse_text

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    resource_version: str
    value: T


class Store(Generic[T]):
    """Keyed by the object's name: all kinds that are stored are cluster-scoped."""

    def __init__(self, parse: Callable[[JsonObject], T], again: Callable[[JsonObject, T], T] | None = None) -> None:
        """``again`` parses an object of which an earlier version is known, whose parts it may take over."""
        self._parse = parse
        self._again = again
        self._entries: dict[str, _Entry[T]] = {}
        self._subscribers: list[Callable[[str, T | None, T | None], None]] = []
        self._synced = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def synced(self) -> bool:
        """Whether a complete list was ever read."""
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
        """Call ``subscriber(name, old, new)`` after each change; None is absence."""
        self._subscribers.append(subscriber)

    def replace(self, listing: Listing) -> None:
        """Take over a complete list: what is not in it is gone."""
        present = set()
        for item in listing.items:
            present.add(_name(item))
            self._set(item)
        for name in [name for name in self._entries if name not in present]:
            self._remove(name)
        self._synced.set()

    def apply(self, event: WatchEvent) -> None:
        if event.type == "DELETED":
            self._remove(_name(event.object))
        elif event.type != "BOOKMARK":
            self._set(event.object)

    def _set(self, raw: JsonObject) -> None:
        name, version = _name(raw), parse_text(find_object(raw, "metadata").get("resourceVersion"))
        old = self._entries.get(name)
        if old is not None and old.resource_version == version:
            return
        value = self._parse(raw) if old is None or self._again is None else self._again(raw, old.value)
        self._entries[name] = _Entry(version, value)
        self._tell(name, None if old is None else old.value, value)

    def _remove(self, name: str) -> None:
        old = self._entries.pop(name, None)
        if old is not None:
            self._tell(name, old.value, None)

    def _tell(self, name: str, old: T | None, new: T | None) -> None:
        for subscriber in self._subscribers:
            subscriber(name, old, new)


def _name(raw: JsonObject) -> str:
    return parse_text(find_object(raw, "metadata").get("name"))
