"""Places the entries of StaticRoutes in the slices of their sets, and removes those that have moved or are gone."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from overlay_net.domain.routes.desired_entries import (
    DesiredEntries,
    DesiredEntry,
    find_key,
    find_keys,
    find_lost,
    has_same_table,
)
from overlay_net.domain.routes.refused_entries import RefusedEntries
from overlay_net.domain.routes.removal_check import RemovalCheck
from overlay_net.domain.routes.route_sets import is_rollout_set
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, Spot
from overlay_net.model.route_key import RouteKey
from overlay_net.model.slice_entry import SliceEntry


class EntryMoves:
    """The changes of one plan. ``now`` is for times that are shown to people, and for ``closed_since``."""

    def __init__(
        self, layout: Layout, desired: DesiredEntries, removals: RemovalCheck, users: SetUsers, now: datetime
    ) -> None:
        self._layout = layout
        self._desired = desired
        self._removals = removals
        self._refused = RefusedEntries(layout, removals, users, now)
        self._now = now

    def place(self) -> None:
        """Write each StaticRoute where it belongs."""
        self._remove_gone()
        self._refused.adopt(each for each in self._desired if each.refused)
        losing = []
        for each in self._desired:
            if each.refused:
                self._refused.close(each)
            elif not self._is_placed(each):
                if self._find_lost(each):
                    losing.append(each)
                else:
                    self._put(each, each.entry)
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
                if not self._removals.find_needed(spot, name, keys):
                    self._layout.remove(spot, name, self._now)

    # --- Places -------------------------------------------------------------------------------------------------------

    def _is_placed(self, each: DesiredEntry) -> bool:
        """Find the spot of an accepted StaticRoute in its set. Returns whether it has the present revision."""
        name = each.route.name
        found = self._layout.find(each.spot) if each.spot is not None else None
        if found is not None and found.entries.get(name) is each.entry:
            return True
        spots = self._layout.spots.get(name, ())
        each.spot = self._layout.find_newest(name, [spot for spot in spots if spot[0] == each.route_set])
        if each.spot is None or self._layout.entry(each.spot, name) != each.entry:
            return False
        self._layout.put(each.spot, each.entry)
        return True

    def _find_lost(self, each: DesiredEntry) -> Mapping[Spot, Collection[RouteKey]]:
        """Return the keys that nodes lose by the present revision, by the spot of an earlier one."""
        name = each.route.name
        spots: Collection[Spot] = self._layout.spots.get(name, ())
        if each.spot is not None and each.is_revision(self._layout.entry(each.spot, name)):
            spots = (each.spot,)
        found = {spot: find_lost(self._layout.entry(spot, name), each.entry) for spot in spots}
        return {spot: keys for spot, keys in found.items() if keys}

    def _edit(self, each: DesiredEntry) -> None:
        """Write a revision that lacks some keys, but keep those that nodes must get from another StaticRoute first.

        A node uses the latest revision alone. If that cannot have these keys, it waits.
        """
        name = each.route.name
        needed: set[RouteKey] = set()
        for spot, keys in self._find_lost(each).items():
            needed |= self._removals.find_needed(spot, name, keys)
        if not needed:
            self._put(each, each.entry)
            return
        extra = {}
        if each.spot is not None and not is_rollout_set(each.route_set):
            present = self._layout.entry(each.spot, name)
            if has_same_table(present, each.entry):
                extra = {key: subnet for subnet in present.subnets if (key := find_key(present, subnet)) in needed}
        if extra.keys() == needed:
            self._put(each, replace(each.entry, subnets=(*each.entry.subnets, *extra.values())))
        else:
            each.spot = self._layout.find_newest(name, self._layout.spots[name])

    def _put(self, each: DesiredEntry, entry: SliceEntry) -> None:
        """Write the entry to its spot in the set, or to another one if it does not fit."""
        others = self._layout.spots.get(entry.name, ())
        if each.spot is not None:
            found = self._layout.get(each.spot)
            size = found.size - len(found.entries[entry.name].subnets) + len(entry.subnets)
            if size <= self._layout.max_routes or len(found.entries) == 1:
                self._layout.put(each.spot, entry)
                return
        room = self._layout.find_room(each.route_set, len(entry.subnets), others)
        each.spot = room or self._layout.add_slice(each.route_set)
        self._layout.put(each.spot, entry)

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
                self._layout.put(spot, replace(present, closed_since=self._refused.closing_time))

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
        return any(
            len(self._layout.spots[name]) > 1 or self._is_fixed(entry)
            for found in self._layout.sets[route_set].values()
            for name, entry in found.entries.items()
        )

    def _is_fixed(self, entry: SliceEntry) -> bool:
        each = self._desired.get(entry.name)
        return each is None or each.entry is not entry

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
