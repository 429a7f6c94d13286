"""Merges the slices of the route sets that a node has into its routes. Controller and agent use the same rule.

A set is known only if all its slices are there as the controller wrote them; the first one lists them. While a set of
the node is unknown, nothing is removed. If several StaticRoutes have the same subnet, metric and table, the oldest one
wins, and any of them over a retained route.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_slice import FIRST, NamedSet, RouteSlice, slice_name
from overlay_net.model.slice_entry import SliceEntry


@dataclass(frozen=True, slots=True)
class Selection:
    """The StaticRoutes that apply to a node."""

    entries: Mapping[str, SliceEntry]
    """By name of the StaticRoute."""
    retained: tuple[SliceEntry, ...]
    slices: Mapping[str, int]
    """Generations, by name, of the slices of known sets that the node has."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """By unknown set, the first slice of it that is missing."""

    @property
    def applied(self) -> tuple[SliceEntry, ...]:
        """The entries and the retained ones, for ``merge_routes``."""
        return (*self.entries.values(), *self.retained)


def select_entries(named: Iterable[NamedSet], slices: Mapping[str, Mapping[int, RouteSlice]]) -> Selection:
    """Return the StaticRoutes of a node that has the sets ``named``; ``slices`` are all slices by set and index."""
    entries: dict[str, SliceEntry] = {}
    retained: list[SliceEntry] = []
    generations: dict[str, int] = {}
    missing: dict[str, str] = {}
    for each in named:
        present = slices.get(each.name, {})
        absent = find_missing(each.name, present)
        if absent:
            missing[each.name] = absent
            continue
        for index in present[FIRST].content.slices:
            found = present[index]
            generations[found.name] = found.generation
            _add_entries(entries, found, each)
            retained += [entry for entry in found.content.retained if entry.applies_since(each.since)]
    return Selection(entries, tuple(retained), generations, missing)


def find_missing(route_set: str, present: Mapping[int, RouteSlice]) -> str:
    """Return the name of the first slice of a set that is missing, or an empty string if the set is known."""
    first = present.get(FIRST)
    listed = first.content.slices if first is not None else (FIRST,)
    return next((slice_name(route_set, index) for index in (FIRST, *listed) if index not in present), "")


def _add_entries(entries: dict[str, SliceEntry], found: RouteSlice, named: NamedSet) -> None:
    for entry in found.content.entries:
        if entry.applies_since(named.since):
            _add_entry(entries, entry)


def _add_entry(entries: dict[str, SliceEntry], entry: SliceEntry) -> None:
    other = entries.get(entry.name)
    # A StaticRoute that moves is in two slices for a while.
    if other is None or other.version_key < entry.version_key:
        entries[entry.name] = entry


def entry_routes(entry: SliceEntry, overlay_gateway: IpAddress | None) -> Iterable[DesiredRoute]:
    """Return the routes of one StaticRoute, before conflicts are resolved."""
    versions = {subnet.version for subnet in entry.subnets}
    specs = {version: entry.spec.with_default_gateway(version, overlay_gateway) for version in versions}
    return (DesiredRoute.to(subnet, specs[subnet.version], entry.name) for subnet in entry.subnets)


def merge_routes(
    entries: Iterable[SliceEntry],
    overlay_gateway: IpAddress | None,
    find_routes: Callable[[SliceEntry, IpAddress | None], Iterable[DesiredRoute]] = entry_routes,
) -> tuple[DesiredRoute, ...]:
    """Return the routes of a node with this overlay gateway, sorted, with one for each key.

    A route that specifies no gateway uses ``overlay_gateway``. If the node has none, or one of the other IP family, it
    has no gateways, and the agent reports it as pending. ``find_routes`` may return routes of an earlier call.
    """
    chosen: dict[RouteKey, DesiredRoute] = {}
    for entry in sorted(entries, key=lambda each: (each.retained, each.age_key)):
        for route in find_routes(entry, overlay_gateway):
            chosen.setdefault(route.key, route)
    return tuple(sorted(chosen.values(), key=lambda route: (route.version, route.key)))
