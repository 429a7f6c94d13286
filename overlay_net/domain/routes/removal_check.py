"""Decides when an entry may be removed from a slice: not before every node has observed what replaces it.

That is the same StaticRoute at its new place, and any other StaticRoute with one of the keys: a subnet may have been
moved from one StaticRoute to another. What is not replaced is removed at once.
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
        name = each.route.name
        if not self._covers(each, spot):
            is_overdue = self._is_overdue((spot, name)) and self._is_reachable(each, spot)
            # A rollout holds nodes back for as long as it takes.
            if each.route.rollout is not None or not is_overdue:
                return False
        return not self.find_needed(spot, name, find_keys(self._layout.entry(spot, name)))

    def find_needed(self, spot: Spot, static_route: str, keys: Collection[RouteKey]) -> frozenset[RouteKey]:
        """Return those of the keys that must stay in ``spot``, because nodes are about to get them from another one."""
        suppliers = self._desired.find_suppliers(keys, without=static_route)
        awaited = [each for each in suppliers if not self._covers(each, spot)]
        if awaited and self._is_overdue((spot, static_route)):
            awaited = [each for each in awaited if not self._is_reachable(each, spot)]
        return frozenset(key for each in awaited for key in each.keys.intersection(keys))

    def _is_overdue(self, wait: Hashable) -> bool:
        self.waiting[wait] = self._before.get(wait, self._clock)
        return self._clock - self.waiting[wait] >= LONGEST_WAIT

    def _is_reachable(self, each: DesiredEntry, lost: Spot) -> bool:
        """Return whether agents alone are waited for: the place is written, and every node that needs it names its set.

        Without a place, two StaticRoutes may be waiting for each other. A rollout decides itself which nodes name it.
        """
        found = self._layout.find(each.spot) if each.spot is not None else None
        entry = found.entries.get(each.route.name) if found is not None else None
        if each.spot is None or found is None or entry is None or not each.is_revision(entry):
            return True
        if each.route.name not in found.generations:
            return False
        route_set = each.spot[0]
        return (
            route_set == lost[0]
            or each.route.rollout is not None
            or all(
                user.overlay.names_set(route_set) or not each.route.selects(user.node)
                for user in self._users.users(lost[0])
            )
        )

    def _covers(self, each: DesiredEntry, lost: Spot) -> bool:
        """Return whether every node with the set of ``lost`` that needs this StaticRoute has it from its place."""
        name = each.route.name
        if each.spot is None:
            return False
        found = self._layout.find(each.spot)
        entry = found.entries.get(name) if found is not None else None
        if found is None or entry is None or not each.is_revision(entry):
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
