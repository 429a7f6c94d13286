"""Places the entries of StaticRoutes in the slices of their sets, and removes those that have moved or are gone."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from overlay_net.domain.routes.desired_entries import DesiredEntries, DesiredEntry
from overlay_net.domain.routes.entry_keys import find_lost
from overlay_net.domain.routes.refused_entries import RefusedEntries
from overlay_net.domain.routes.removal_check import RemovalCheck
from overlay_net.domain.routes.retained_routes import RetainedRoutes
from overlay_net.domain.routes.route_sets import is_rollout_set
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, Spot
from overlay_net.model.route_key import RouteKey
from overlay_net.model.slice_entry import SliceEntry


class EntryMoves:
    """The changes of one plan."""

    def __init__(
        self,
        layout: Layout,
        desired: DesiredEntries,
        removals: RemovalCheck,
        retained: RetainedRoutes,
        users: SetUsers,
    ) -> None:
        self._layout = layout
        self._desired = desired
        self._removals = removals
        self._retained = retained
        self._refused = RefusedEntries(layout, retained, users)
        self._unwritten: Mapping[str, Collection[Spot]] = {}

    def place(self) -> None:
        """Write each StaticRoute where it belongs."""
        self._remove_gone()
        self._unwritten = self._retained.find_unwritten()
        self._refused.adopt(each for each in self._desired if each.refused)
        losing = []
        for each in self._desired:
            if each.refused:
                self._refused.close(each)
            elif not self._is_placed(each):
                lost = self._find_lost(each)
                if lost:
                    losing.append((each, lost))
                else:
                    self._edit(each, lost)
        # What they lose may be what another StaticRoute has got now.
        for each, lost in losing:
            self._edit(each, lost)

    def _remove_gone(self) -> None:
        """Remove StaticRoutes that do not exist any more, to make room."""
        for name, spots in tuple(self._layout.spots.items()):
            if name not in self._desired:
                for spot in tuple(spots):
                    self._retained.remove(spot, name)

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

    def _edit(self, each: DesiredEntry, lost: Mapping[Spot, Collection[RouteKey]]) -> None:
        """Write the present revision. What it lacks, and nodes must get from other StaticRoutes, stays where it was.

        A node uses the latest revision alone, so before that is written to another slice, the old one must retain them.
        """
        name = each.route.name
        place = self._find_place(each)
        is_safe = all(spot == place for spot in self._unwritten.get(name, ()))
        for spot, keys in lost.items():
            self._retained.retain(spot, name, keys)
            is_safe &= spot == place or self._retained.is_safe(spot, keys)
        if is_safe:
            each.spot = place or self._layout.add_slice(each.route_set)
            self._layout.put(each.spot, each.entry)
        else:
            each.spot = self._layout.find_newest(name, self._layout.spots.get(name, ()))

    def _find_place(self, each: DesiredEntry) -> Spot | None:
        """Return the slice of its set in which the StaticRoute fits; None: there is none."""
        if each.spot is not None and self._layout.fits(each.spot, each.entry):
            return each.spot
        others = self._layout.spots.get(each.route.name, ())
        return self._layout.find_room(each.route_set, len(each.entry.subnets), others)

    # --- Removals -----------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Remove what has moved and what is gone, as far as the nodes do not need it any more."""
        for name, spots in tuple(self._layout.spots.items()):
            each = self._desired.get(name)
            if each is None or each.refused or len(spots) == 1:
                continue
            for spot in tuple(spots):
                if spot != each.spot and is_rollout_set(spot[0]):
                    self._retained.leave_unselected(spot, each.route)
                elif spot != each.spot:
                    self._leave(each, spot)

    def _leave(self, each: DesiredEntry, spot: Spot) -> None:
        if self._removals.may_leave(spot, each):
            self._retained.remove(spot, each.route.name)
        elif each.route.rollout is not None:
            # Nodes that get the set during the rollout have the present revision.
            present = self._layout.entry(spot, each.route.name)
            if present.closed_since is None:
                self._layout.put(spot, replace(present, closed_since=self._retained.closing_time))

    # --- Compaction ---------------------------------------------------------------------------------------------------

    def compact(self) -> None:
        """Drop a slice of each set whose StaticRoutes fit into less than half of its slices, once it is empty."""
        for route_set, slices in self._layout.sets.items():
            if len(slices) < 2:
                continue
            last = max(slices)
            if 2 * self._layout.count_needed(route_set) >= len(slices):
                continue
            if self._layout.has_retained(route_set):
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
