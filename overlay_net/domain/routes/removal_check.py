"""Decides when what a slice has may be removed: not before every node has observed what replaces it.

That is the same StaticRoute at its new place, and any other StaticRoute with one of the keys: a subnet may have been
moved from one StaticRoute to another. What is not replaced is removed at once.
"""

from collections.abc import Collection, Hashable
from typing import Final

from overlay_net.domain.routes.desired_entries import DesiredEntries, DesiredEntry
from overlay_net.domain.routes.entry_keys import find_keys
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, Spot
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_slice import slice_name
from overlay_net.model.slice_entry import SliceEntry

LONGEST_WAIT: Final = 60.0
"""Seconds after which a removal does not wait any more for agents that name the set of what replaces it."""


class RemovalCheck:
    """For one plan. ``waiting`` has the start of each wait, and is kept between plans; ``clock`` is in seconds."""

    def __init__(
        self,
        layout: Layout,
        desired: DesiredEntries,
        users: SetUsers,
        clock: float,
        before: dict[Hashable, float],
    ) -> None:
        self._layout = layout
        self._desired = desired
        self._users = users
        self._clock = clock
        self._before = before
        self._observed: dict[Hashable, bool] = {}
        self.waiting: dict[Hashable, float] = {}

    def may_leave(self, spot: Spot, each: DesiredEntry) -> bool:
        """Return whether the old entry of a StaticRoute that has another place now may be removed from ``spot``."""
        wait = (spot, each.route.name)
        return self._is_replaced(each, spot) or self._is_replaced(each, spot, is_overdue=self._is_overdue(wait))

    def find_needed(self, spot: Spot, keys: Collection[RouteKey], *, without: str) -> frozenset[RouteKey]:
        """Return those of the keys that nodes must not lose by the next write of ``spot``.

        They are about to get them from another slice. ``without`` is a StaticRoute that does not count.
        """
        return self._find_needed(spot, keys, without=without)

    def find_awaited(self, spot: Spot, keys: Collection[RouteKey]) -> frozenset[RouteKey]:
        """Return those of the keys that nodes must not lose by a write of another slice: nothing in ``spot`` has them.

        What is only about to be written there does not count.
        """
        return self._find_needed(spot, keys, written=True) - self._layout.get(spot).written

    def find_retained(self, spot: Spot, retained: SliceEntry) -> frozenset[RouteKey]:
        """Return which of the retained routes nodes still need, as far as their agents are to be waited for."""
        needed = self._find_needed(spot, find_keys(retained))
        if not needed:
            return needed
        wait = (spot, retained.name, retained.uid, retained.generation)
        return self._find_needed(spot, needed, is_overdue=self._is_overdue(wait))

    def _find_needed(
        self,
        spot: Spot,
        keys: Collection[RouteKey],
        *,
        without: str = "",
        written: bool = False,
        is_overdue: bool = False,
    ) -> frozenset[RouteKey]:
        needed: set[RouteKey] = set()
        here: set[RouteKey] = set()
        for each in self._desired.find_suppliers(keys, without):
            if not self._is_replaced(each, spot, written=written, is_overdue=is_overdue):
                needed |= each.keys.intersection(keys)
            elif each.spot == spot:
                here |= each.keys
        # Every node that has the slice has these, whatever it gets elsewhere.
        return frozenset(needed - here)

    def _is_overdue(self, wait: Hashable) -> bool:
        self.waiting[wait] = self._before.get(wait, self._clock)
        return self._clock - self.waiting[wait] >= LONGEST_WAIT

    def _is_replaced(self, each: DesiredEntry, lost: Spot, *, written: bool = False, is_overdue: bool = False) -> bool:
        """Return whether every node with the set of ``lost`` that needs this StaticRoute has it from its place.

        ``written``: what is in ``lost`` counts only if the slice in the cache has it. ``is_overdue``: nodes that name
        its set count although they have not observed it.
        """
        name = each.route.name
        found = self._layout.find(each.spot) if each.spot is not None else None
        if each.spot is None or found is None or found.entries.get(name) != each.entry:
            return False
        generation = found.generations.get(name)
        if each.spot == lost:
            # One write adds and removes.
            return generation is not None or not written
        if generation is None:
            # Not in the cache yet.
            return False
        question = (lost[0], each.spot, generation, is_overdue)
        if question not in self._observed:
            self._observed[question] = self._is_observed(each, each.spot, lost[0], generation, is_overdue)
        return self._observed[question]

    def _is_observed(self, each: DesiredEntry, spot: Spot, lost_set: str, generation: int, is_overdue: bool) -> bool:
        route_set, name = spot[0], slice_name(*spot)
        return all(
            user.has_observed(route_set, name, generation)
            or (is_overdue and user.overlay.names_set(route_set))
            or (route_set != lost_set and not each.route.selects(user.node))
            for user in self._users.users(lost_set)
        )
