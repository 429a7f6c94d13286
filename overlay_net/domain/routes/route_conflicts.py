"""Finds the routes of a StaticRoute that older ones have on a node, by the rule that merges slices.

Only StaticRoutes that claim the same route with another specification are compared, on each of their nodes. Nodes
with the same sets and overlay gateway have the same conflicts.
"""

from collections.abc import Mapping

from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.occurrences import Occurrence, Occurrences
from overlay_net.domain.routes.outcome import Outcome, conflict_outcome
from overlay_net.model.net import IpAddress
from overlay_net.model.route_key import RouteKey, decode_subnet, decode_version
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.model.static_route import StaticRoute

NO_CONFLICTS: Mapping[RouteKey, Outcome] = {}


class RouteConflicts:
    """``keys`` are those of the routes of ``route``."""

    def __init__(self, route: StaticRoute, keys: Mapping[RouteKey, object], occurrences: Occurrences) -> None:
        self._route = route
        self._keys = keys
        self._older = _find_older(route, keys, occurrences)
        at = [occurrence for each in self._older.values() for occurrence in each]
        self._sets = sorted({occurrence.route_set for occurrence in at})
        self._depends_on_time = any(occurrence.entry.closed_since is not None for occurrence in at)
        self._found: dict[tuple[object, ...], Mapping[RouteKey, Outcome]] = {}

    def __bool__(self) -> bool:
        """Whether any node may have a conflict."""
        return bool(self._older)

    def on_node(self, table: NodeTable) -> Mapping[RouteKey, Outcome]:
        """Return the conflicts on one node."""
        if not self._older:
            return NO_CONFLICTS
        gateway = table.overlay_gateway
        named = (name for name in self._sets if name in table.sets)
        like = (gateway, *((name, table.sets[name]) if self._depends_on_time else name for name in named))
        found = self._found.get(like)
        if found is None:
            found = self._found[like] = self._find(table, gateway)
        return found

    def _find(self, table: NodeTable, gateway: IpAddress | None) -> Mapping[RouteKey, Outcome]:
        winners: dict[RouteKey, SliceEntry] = {}
        newest = (_newest_on_node(occurrences, table) for occurrences in self._older.values())
        older = (each for each in newest if each is not None and each.entry.age_key < self._route.age_key)
        for each in sorted(older, key=lambda each: each.entry.age_key):
            for key in each.keys & self._keys.keys():
                winners.setdefault(key, each.entry)
        return {
            key: conflict_outcome(winner.name, decode_subnet(key))
            for key, winner in winners.items()
            if self._differs(winner, decode_version(key), gateway)
        }

    def _differs(self, entry: SliceEntry, version: int, gateway: IpAddress | None) -> bool:
        return self._route.spec_for(version, gateway) != entry.spec.with_default_gateway(version, gateway)


def _find_older(
    route: StaticRoute, keys: Mapping[RouteKey, object], occurrences: Occurrences
) -> Mapping[str, tuple[Occurrence, ...]]:
    """Return the occurrences of the older StaticRoutes with another specification of a route of ``route``, by name."""
    names = {name for key in keys for name in occurrences.claimants(key) if name != route.name}
    found = {name: tuple(occurrences.of_route(name)) for name in names}
    older = {
        name: at for name, at in found.items() if any(occurrence.entry.age_key < route.age_key for occurrence in at)
    }
    if all(occurrence.entry.spec == route.spec for at in older.values() for occurrence in at):
        return {}
    return older


def _newest_on_node(occurrences: tuple[Occurrence, ...], table: NodeTable) -> Occurrence | None:
    """Return the occurrence of one StaticRoute that applies to a node; None: none does."""
    applying = (each for each in occurrences if applies(each, table))
    return max(applying, key=lambda each: each.entry.version_key, default=None)


def applies(occurrence: Occurrence, table: NodeTable) -> bool:
    """Return whether a node has the routes of a StaticRoute from this slice."""
    return occurrence.route_set in table.sets and occurrence.entry.applies_since(table.sets[occurrence.route_set])
