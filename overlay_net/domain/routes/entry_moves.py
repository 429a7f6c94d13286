"""Places the entries of StaticRoutes in the slices of their sets, and removes those that have moved or are gone."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Final

from overlay_net.domain.routes.desired_entries import DesiredEntries, DesiredEntry, find_keys
from overlay_net.domain.routes.removal_check import RemovalCheck
from overlay_net.domain.routes.route_sets import is_rollout_set
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, Spot
from overlay_net.model.route_key import RouteKey
from overlay_net.model.slice_entry import SliceEntry

NO_KEYS: Final[frozenset[RouteKey]] = frozenset()


class EntryMoves:
    """The changes of one plan. ``now`` is for times that are shown to people, and for ``closed_since``."""

    def __init__(
        self, layout: Layout, desired: DesiredEntries, removals: RemovalCheck, users: SetUsers, now: datetime
    ) -> None:
        self._layout = layout
        self._desired = desired
        self._removals = removals
        self._users = users
        self._now = now

    def place(self) -> None:
        """Write each StaticRoute where it belongs."""
        self._remove_gone()
        losing = []
        for each in self._desired:
            if each.refused:
                self._close(each)
            elif not self._keep(each):
                losing.append(each)
        # What they lose may be what another StaticRoute has got now.
        for each in losing:
            self._edit(each)

    def _remove_gone(self) -> None:
        """Remove StaticRoutes that do not exist any more, and whose keys no other one has, to make room."""
        for name, spots in tuple(self._layout.spots.items()):
            if name in self._desired:
                continue
            for spot in tuple(spots):
                keys = find_keys(self._layout.entry(spot, name))
                if self._removals.may_lose(spot, name, keys):
                    self._layout.remove(spot, name, self._now)

    # --- Places -------------------------------------------------------------------------------------------------------

    def _keep(self, each: DesiredEntry) -> bool:
        """Place an accepted StaticRoute, unless that is an edit by which keys are lost."""
        home = [spot for spot in self._layout.spots.get(each.route.name, ()) if spot[0] == each.route_set]
        each.spot = self._layout.find_newest(each.route.name, home)
        if each.spot is None:
            each.spot = self._find_room(each)
            self._layout.put(each.spot, each.entry)
            return True
        present = self._layout.entry(each.spot, each.route.name)
        if present is each.entry:
            return True
        if _lost(present, each.entry) and not is_rollout_set(each.route_set):
            return False
        self._put(each, each.spot, present)
        return True

    def _edit(self, each: DesiredEntry) -> None:
        """Replace an entry by one that lacks some of its keys; elsewhere if a node may need them meanwhile."""
        spot = each.spot
        if spot is None:
            return
        present = self._layout.entry(spot, each.route.name)
        if self._removals.may_lose(spot, each.route.name, _lost(present, each.entry)):
            self._put(each, spot, present)
        else:
            self._move(each)

    def _put(self, each: DesiredEntry, spot: Spot, present: SliceEntry) -> None:
        found = self._layout.get(spot)
        size = found.size - len(present.subnets) + len(each.entry.subnets)
        if size <= self._layout.max_routes or len(found.entries) == 1:
            self._layout.put(spot, each.entry)
        else:
            self._move(each)

    def _move(self, each: DesiredEntry) -> None:
        each.spot = self._find_room(each, self._layout.spots[each.route.name])
        self._layout.put(each.spot, each.entry)

    def _find_room(self, each: DesiredEntry, without: Collection[Spot] = ()) -> Spot:
        found = self._layout.find_room(each.route_set, len(each.entry.subnets), without)
        return found or self._layout.add_slice(each.route_set)

    # --- Refused StaticRoutes -----------------------------------------------------------------------------------------

    def _close(self, each: DesiredEntry) -> None:
        """Keep a refused StaticRoute where it is, with the subnets that it had there, for the nodes that have it."""
        name = each.route.name
        spots = self._layout.spots.get(name, ())
        each.spot = self._layout.find_newest(name, spots)
        for spot in tuple(spots):
            present = self._layout.entry(spot, name)
            since = present.closed_since or self._closing_time()
            closed = present if present.closed_since is not None else replace(present, closed_since=since)
            self._layout.put(spot, closed)
            revision = (present.uid, present.generation)
            if spot == each.spot and not is_rollout_set(spot[0]) and revision != each.route.revision:
                self._narrow(each, spot, present, since)

    def _narrow(self, each: DesiredEntry, spot: Spot, present: SliceEntry, since: datetime) -> None:
        """Apply a later revision of a refused StaticRoute to the subnets that it has and still specifies."""
        had = frozenset(present.subnets)
        subnets = tuple(subnet for subnet in each.entry.subnets if subnet in had)
        narrowed = replace(each.entry, subnets=subnets, closed_since=since)
        if not self._removals.may_lose(spot, each.route.name, _lost(present, narrowed)):
            return
        if subnets:
            self._layout.put(spot, narrowed)
        else:
            self._layout.remove(spot, each.route.name, self._now)
            each.spot = None

    def _closing_time(self) -> datetime:
        """Return a time that is not before that of any node with the set, whatever clock it was written by."""
        latest = self._users.latest_since
        return self._now if latest is None else max(self._now, latest)

    # --- Removals -----------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Remove what has moved and what is gone, as far as the nodes do not need it any more."""
        for name, spots in tuple(self._layout.spots.items()):
            each = self._desired.get(name)
            if each is None or each.refused or len(spots) == 1:
                continue
            for spot in tuple(spots):
                if spot != each.spot and not is_rollout_set(spot[0]):
                    self._leave(each, spot)

    def _leave(self, each: DesiredEntry, spot: Spot) -> None:
        if self._removals.may_leave(spot, each):
            self._layout.remove(spot, each.route.name, self._now)
        elif each.route.rollout is not None:
            # Nodes that get the set during the rollout have the present revision.
            present = self._layout.entry(spot, each.route.name)
            if present.closed_since is None:
                self._layout.put(spot, replace(present, closed_since=self._closing_time()))

    # --- Compaction ---------------------------------------------------------------------------------------------------

    def compact(self) -> None:
        """Drop a slice of each set whose StaticRoutes fit into less than half of its slices, once it is empty."""
        for route_set, slices in self._layout.sets.items():
            if len(slices) < 2:
                continue
            last = max(slices)
            if 2 * self._layout.count_needed(route_set) >= len(slices):
                continue
            if not slices[last].entries:
                self._layout.drop_slice((route_set, last))
            elif not self._has_moves(route_set):
                self._clear(route_set, last)

    def _has_moves(self, route_set: str) -> bool:
        names = (name for found in self._layout.sets[route_set].values() for name in found.entries)
        return any(len(self._layout.spots[name]) > 1 or self._is_fixed(name) for name in names)

    def _is_fixed(self, name: str) -> bool:
        each = self._desired.get(name)
        return each is None or each.refused

    def _clear(self, route_set: str, last: int) -> None:
        """Copy the entries of a slice to others."""
        for name in tuple(self._layout.get((route_set, last)).entries):
            each = self._desired.get(name)
            if each is None:
                continue
            spot = self._layout.find_room(route_set, len(each.entry.subnets), {(route_set, last)})
            if spot is not None:
                self._layout.put(spot, each.entry)
                each.spot = spot


def _lost(before: SliceEntry, after: SliceEntry) -> frozenset[RouteKey]:
    if before.subnets == after.subnets and _same_keys(before, after):
        return NO_KEYS
    return find_keys(before) - find_keys(after)


def _same_keys(before: SliceEntry, after: SliceEntry) -> bool:
    return (before.spec.metric, before.spec.table) == (after.spec.metric, after.spec.table)
