"""Which slice of which route set has each StaticRoute: the content that the slices must have, kept between plans.

A StaticRoute stays in its slice while it fits. While it moves it is in two slices or more. A route that it loses is
retained in its slice while other StaticRoutes are about to have it.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeAlias

from overlay_net.domain.routes.entry_keys import find_keys, select_keys
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_slice import FIRST, RouteSlice, by_set
from overlay_net.model.slice_entry import SliceEntry

MAX_ROUTES: Final = 64
"""Maximum number of routes in a slice, unless one StaticRoute alone has more."""

Spot: TypeAlias = tuple[str, int]
"""A slice, by its set and its index in it."""


@dataclass(slots=True)
class SliceLayout:
    """The content of one slice; entries and retained routes have no ``slice_generation``."""

    entries: dict[str, SliceEntry] = field(default_factory=dict)
    """By StaticRoute."""
    retained: list[SliceEntry] = field(default_factory=list)
    written: frozenset[RouteKey] = frozenset()
    """The keys of the retained routes that the slice in the cache has."""
    withdrawn: dict[str, datetime | None] = field(default_factory=dict)
    """StaticRoutes that were removed, and when."""
    size: int = 0
    """Number of routes, without the retained ones."""
    generations: dict[str, int] = field(default_factory=dict)
    """The ``slice_generation`` of the entries that the slice in the cache has in this form."""
    latest: int = 0
    """The latest generation that the slice has had, also before it was deleted or restored from a backup."""
    changed: bool = True
    """The content may differ from the slice in the cache."""
    compared: RouteSlice | None = None
    """The slice in the cache to which it was last compared."""


class Layout:
    """``sets`` has the slices by set and index, and ``spots`` the slices of each StaticRoute."""

    def __init__(self, slices: Iterable[RouteSlice] = (), max_routes: int = MAX_ROUTES) -> None:
        self.max_routes = max_routes
        self.sets: dict[str, dict[int, SliceLayout]] = {}
        self.spots: dict[str, set[Spot]] = {}
        for route_set, indices in by_set(slices, intact=False).items():
            self.adopt(route_set, indices.items())

    def adopt(self, route_set: str, slices: Iterable[tuple[int, RouteSlice]]) -> None:
        """Add the present content of a set that is not known yet."""
        self.sets.setdefault(route_set, {}).setdefault(FIRST, SliceLayout())
        for index, present in slices:
            found = self.sets[route_set].setdefault(index, SliceLayout())
            found.withdrawn = {each.static_route: each.since for each in present.content.withdrawn}
            for entry in present.content.entries:
                self.put((route_set, index), replace(entry, slice_generation=0))
            self._replace_retained(found, [replace(each, slice_generation=0) for each in present.content.retained])

    def get(self, spot: Spot) -> SliceLayout:
        return self.sets[spot[0]][spot[1]]

    def find(self, spot: Spot) -> SliceLayout | None:
        return self.sets.get(spot[0], {}).get(spot[1])

    def entry(self, spot: Spot, static_route: str) -> SliceEntry:
        return self.get(spot).entries[static_route]

    def put(self, spot: Spot, entry: SliceEntry) -> None:
        """Add or replace the entry of a StaticRoute in a slice, which is created if it does not exist."""
        found = self.sets.setdefault(spot[0], {}).setdefault(spot[1], SliceLayout())
        before = found.entries.get(entry.name)
        if before == entry:
            # The same value again, so that the next comparison is one of identity.
            found.entries[entry.name] = entry
            return
        found.size += len(entry.subnets) - (len(before.subnets) if before is not None else 0)
        found.entries[entry.name] = entry
        found.generations.pop(entry.name, None)
        found.withdrawn.pop(entry.name, None)
        found.changed = True
        self.spots.setdefault(entry.name, set()).add(spot)

    def remove(self, spot: Spot, static_route: str, now: datetime | None = None) -> None:
        """Remove the entry; with ``now``, the slice lists it as withdrawn unless another one of the set has it."""
        found = self.get(spot)
        found.size -= len(found.entries.pop(static_route).subnets)
        found.generations.pop(static_route, None)
        found.changed = True
        spots = self.spots[static_route]
        spots.discard(spot)
        if not spots:
            del self.spots[static_route]
        if now is not None and all(route_set != spot[0] for route_set, _ in spots):
            found.withdrawn[static_route] = now.replace(microsecond=0)

    def retain(self, spot: Spot, entry: SliceEntry, keys: Collection[RouteKey], closing_time: datetime) -> None:
        """Keep these routes of an entry that loses them, for the nodes that have had the set since ``closing_time``."""
        found = self.get(spot)
        missing = frozenset(keys).difference(*map(find_keys, found.retained))
        if missing:
            since = entry.closed_since or closing_time
            part = replace(select_keys(entry, missing), probe=None, closed_since=since, retained=True)
            self._replace_retained(found, [*found.retained, part])

    def release(self, spot: Spot, keys: Collection[RouteKey]) -> None:
        """Drop retained routes."""
        found = self.get(spot)
        parts = (select_keys(each, find_keys(each).difference(keys)) for each in found.retained)
        self._replace_retained(found, [each for each in parts if each.subnets])

    def _replace_retained(self, found: SliceLayout, retained: list[SliceEntry]) -> None:
        if retained != found.retained:
            found.retained = retained
            found.changed = True

    def has_content(self, route_set: str) -> bool:
        return any(found.entries or found.retained for found in self.sets[route_set].values())

    def has_retained(self, route_set: str) -> bool:
        return any(found.retained for found in self.sets[route_set].values())

    def drop_slice(self, spot: Spot) -> None:
        for static_route in tuple(self.get(spot).entries):
            self.remove(spot, static_route)
        del self.sets[spot[0]][spot[1]]
        if FIRST in self.sets[spot[0]]:
            self.sets[spot[0]][FIRST].changed = True

    def drop_set(self, route_set: str) -> None:
        for index in tuple(self.sets[route_set]):
            self.drop_slice((route_set, index))
        del self.sets[route_set]

    def fits(self, spot: Spot, entry: SliceEntry) -> bool:
        """Return whether the slice has room for another form of an entry that it has."""
        found = self.get(spot)
        size = found.size - len(found.entries[entry.name].subnets) + len(entry.subnets)
        return size <= self.max_routes or len(found.entries) == 1

    def find_room(self, route_set: str, size: int, without: Collection[Spot] = ()) -> Spot | None:
        """Return the first slice of the set with room, or None."""
        slices = self.sets.get(route_set, {})
        for index in sorted(slices):
            if self._has_room(slices[index], size) and (route_set, index) not in without:
                return route_set, index
        return None

    def _has_room(self, found: SliceLayout, size: int) -> bool:
        retained = sum(len(each.subnets) for each in found.retained)
        return not found.entries or found.size + retained + size <= self.max_routes

    def add_slice(self, route_set: str) -> Spot:
        """Add an empty slice to the set, which is created if it does not exist."""
        slices = self.sets.setdefault(route_set, {})
        index = next(each for each in range(len(slices) + 1) if each not in slices)
        slices[index] = SliceLayout()
        slices.setdefault(FIRST, SliceLayout()).changed = True
        return route_set, index

    def count_needed(self, route_set: str) -> int:
        """Return how many slices the entries of the set need at least."""
        sizes = [len(entry.subnets) for found in self.sets[route_set].values() for entry in found.entries.values()]
        large = sum(size > self.max_routes for size in sizes)
        rest = sum(size for size in sizes if size <= self.max_routes)
        return max(1, large + -(-rest // self.max_routes))

    def indices(self, route_set: str) -> tuple[int, ...]:
        return tuple(sorted(self.sets[route_set]))

    def find_newest(self, static_route: str, spots: Iterable[Spot]) -> Spot | None:
        """Return the spot with the latest version of the StaticRoute; of equal ones, that with the lowest index."""
        return max(
            spots,
            key=lambda spot: (self.entry(spot, static_route).version_key[:2], -spot[1], spot[0]),
            default=None,
        )

    def __iter__(self) -> Iterator[Spot]:
        return iter([(route_set, index) for route_set, slices in self.sets.items() for index in slices])
