"""Removes routes from slices, and retains there what nodes are about to get from another StaticRoute.

A StaticRoute is edited at once, even if what it loses is not in place elsewhere yet: so StaticRoutes that exchange
subnets or selectors do not wait for each other.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

from overlay_net.domain.routes.entry_keys import find_keys
from overlay_net.domain.routes.removal_check import RemovalCheck
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, Spot
from overlay_net.model.route_key import RouteKey
from overlay_net.model.static_route import StaticRoute


class RetainedRoutes:
    """The changes of one plan, at the time ``now``; ``closing_time`` is not before any node had its sets."""

    def __init__(
        self, layout: Layout, removals: RemovalCheck, users: SetUsers, now: datetime, closing_time: datetime
    ) -> None:
        self._layout = layout
        self._removals = removals
        self._users = users
        self._now = now
        self.closing_time = closing_time

    def retain(self, spot: Spot, static_route: str, keys: Collection[RouteKey]) -> None:
        """Retain what is needed of the keys that the next write of the slice takes from a StaticRoute."""
        needed = self._removals.find_needed(spot, keys, without=static_route)
        self._layout.retain(spot, self._layout.entry(spot, static_route), needed, self.closing_time)

    def find_unwritten(self) -> Mapping[str, Collection[Spot]]:
        """Return the slices that do not retain yet in the cache what they must, by StaticRoute."""
        found: dict[str, set[Spot]] = {}
        for spot in self._layout:
            each = self._layout.get(spot)
            for entry in each.retained:
                if not find_keys(entry) <= each.written:
                    found.setdefault(entry.name, set()).add(spot)
        return found

    def is_safe(self, spot: Spot, keys: Collection[RouteKey]) -> bool:
        """Return whether nodes have the keys from ``spot`` even if a write of another slice removes them."""
        return not self._removals.find_awaited(spot, keys)

    def remove(self, spot: Spot, static_route: str) -> None:
        """Remove an entry, but for the routes that are needed."""
        self.retain(spot, static_route, find_keys(self._layout.entry(spot, static_route)))
        self._layout.remove(spot, static_route, self._now)

    def leave_unselected(self, spot: Spot, route: StaticRoute) -> None:
        """Retain what nodes need of an earlier revision in a set of its own, which they give up if not selected."""
        keys = find_keys(self._layout.entry(spot, route.name))
        if not self._removals.find_needed(spot, keys, without=route.name):
            return
        selected = [route.selects(user.node) for user in self._users.users(spot[0])]
        if not any(selected):
            self.remove(spot, route.name)
        elif not all(selected):
            self.retain(spot, route.name, keys)

    def release(self) -> None:
        """Remove the retained routes that are not needed any more."""
        for spot in self._layout:
            for each in tuple(self._layout.get(spot).retained):
                self._layout.release(spot, find_keys(each) - self._removals.find_retained(spot, each))
