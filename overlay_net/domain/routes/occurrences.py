"""In which slices each StaticRoute is, and which StaticRoutes claim the same route."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from overlay_net.domain.routes.entry_keys import find_keys
from overlay_net.model.route_key import RouteKey, encode_route_key
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.model.static_route import StaticRoute


class Occurrence(NamedTuple):
    """A StaticRoute in a slice."""

    slice: str
    route_set: str
    entry: SliceEntry
    keys: frozenset[RouteKey]
    """Those of the routes of the entry; computed once, as thousands of nodes may get a set of a thousand entries."""


class Occurrences:
    """Follows the slices; a change costs what is in one slice."""

    def __init__(self) -> None:
        self._by_slice: dict[str, dict[str, Occurrence]] = {}
        self._by_route: dict[str, dict[str, Occurrence]] = {}
        """By name of the StaticRoute, then of the slice."""
        self._claims: dict[RouteKey, set[tuple[str, str]]] = {}
        """Names of slice and StaticRoute by route key."""

    def update(self, name: str, present: RouteSlice | None) -> list[Occurrence]:
        """Replace the contents of a slice. Returns what is different, as it was and as it is."""
        before = self._by_slice.pop(name, {})
        after = {} if present is None else _find_occurrences(present, before)
        if after:
            self._by_slice[name] = after
        removed = [each for key, each in before.items() if after.get(key) is not each]
        added = [each for key, each in after.items() if before.get(key) is not each]
        for each in removed:
            self._remove(each)
        for each in added:
            self._add(each)
        return [*removed, *added]

    def of_slice(self, name: str) -> Iterable[Occurrence]:
        return self._by_slice.get(name, {}).values()

    def of_route(self, name: str) -> Iterable[Occurrence]:
        """Return the occurrences of a StaticRoute, of any revision."""
        return self._by_route.get(name, {}).values()

    def claimants(self, key: RouteKey) -> Iterator[str]:
        """Yield the StaticRoutes that have this route in a slice."""
        return (name for _, name in self._claims.get(key, ()))

    def _remove(self, occurrence: Occurrence) -> None:
        name = occurrence.entry.name
        del self._by_route[name][occurrence.slice]
        if not self._by_route[name]:
            del self._by_route[name]
        for key in occurrence.keys:
            claims = self._claims[key]
            claims.discard((occurrence.slice, name))
            if not claims:
                del self._claims[key]

    def _add(self, occurrence: Occurrence) -> None:
        name = occurrence.entry.name
        self._by_route.setdefault(name, {})[occurrence.slice] = occurrence
        for key in occurrence.keys:
            self._claims.setdefault(key, set()).add((occurrence.slice, name))


def _find_occurrences(present: RouteSlice, before: Mapping[str, Occurrence]) -> dict[str, Occurrence]:
    """Return the occurrences in a slice; those that are as ``before`` are reused."""
    found = {}
    for entry in present.content.entries:
        occurrence = before.get(entry.name)
        if occurrence is None or occurrence.entry != entry or occurrence.route_set != present.route_set:
            occurrence = Occurrence(present.name, present.route_set, entry, find_keys(entry))
        found[entry.name] = occurrence
    return found


def route_keys(route: StaticRoute) -> Iterator[RouteKey]:
    """Yield the keys of the routes of a StaticRoute, in the order of its subnets."""
    return (encode_route_key(subnet, route.spec.metric, route.spec.table) for subnet in route.subnets)
