"""Decides when an entry may be removed from a slice: not before every node has observed what replaces it.

That is the same StaticRoute at its new place, and any other StaticRoute with one of the keys: a person may move a
subnet from one StaticRoute to another. A StaticRoute without replacement is removed at once.
"""

from collections.abc import Collection, Hashable
from typing import Final

from overlay_net.domain.routes.desired_entries import DesiredEntries, DesiredEntry, find_keys
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, Spot
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_slice import slice_name

LONGEST_WAIT: Final = 60.0
"""Seconds after which a removal does not wait for agents any more, except those that a rollout holds back."""


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
        self._covered: dict[Hashable, bool] = {}
        self.waiting: dict[Hashable, float] = {}

    def may_leave(self, spot: Spot, each: DesiredEntry) -> bool:
        """Return whether the old entry of a StaticRoute that has another place now may be removed from ``spot``."""
        is_held_back = each.route.rollout is not None and not self._covers(each, spot)
        if is_held_back:
            self._elapsed((spot, each.route.name))
            return False
        entry = self._layout.entry(spot, each.route.name)
        return self._may(spot, each.route.name, find_keys(entry), each)

    def may_lose(self, spot: Spot, static_route: str, keys: Collection[RouteKey]) -> bool:
        """Return whether these keys of a StaticRoute may be removed from ``spot``."""
        return self._may(spot, static_route, keys, None)

    def _may(self, spot: Spot, static_route: str, keys: Collection[RouteKey], itself: DesiredEntry | None) -> bool:
        others = self._desired.find_suppliers(keys, without=static_route)
        if (itself is None or self._covers(itself, spot)) and all(self._covers(each, spot) for each in others):
            return True
        return self._elapsed((spot, static_route)) >= LONGEST_WAIT

    def _elapsed(self, wait: Hashable) -> float:
        self.waiting[wait] = self._before.get(wait, self._clock)
        return self._clock - self.waiting[wait]

    def _covers(self, each: DesiredEntry, lost: Spot) -> bool:
        """Return whether every node with the set of ``lost`` that needs this StaticRoute has it from its place."""
        name = each.route.name
        if each.spot is None:
            return False
        found = self._layout.find(each.spot)
        if found is None or found.entries.get(name) is not each.entry:
            return False
        if each.spot == lost:
            # One write adds and removes.
            return True
        generation = found.generations.get(name)
        if generation is None:
            # Not in the cache yet.
            return False
        question = (lost[0], each.spot, generation)
        if question not in self._covered:
            self._covered[question] = self._is_observed(each, each.spot, lost[0], generation)
        return self._covered[question]

    def _is_observed(self, each: DesiredEntry, spot: Spot, lost_set: str, generation: int) -> bool:
        route_set, name = spot[0], slice_name(*spot)
        return all(
            user.has_observed(route_set, name, generation)
            or (route_set != lost_set and not each.route.selects(user.node))
            for user in self._users.users(lost_set)
        )
