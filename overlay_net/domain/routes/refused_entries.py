"""Closes the entries of refused StaticRoutes: the nodes that have the routes keep them, others do not get them."""

from dataclasses import replace
from datetime import datetime

from overlay_net.domain.routes.desired_entries import DesiredEntry, find_keys, find_lost
from overlay_net.domain.routes.removal_check import RemovalCheck
from overlay_net.domain.routes.route_sets import is_rollout_set, shared_set_name
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, Spot
from overlay_net.model.slice_entry import SliceEntry


class RefusedEntries:
    """The changes of one plan, at the time ``now``."""

    def __init__(self, layout: Layout, removals: RemovalCheck, users: SetUsers, now: datetime) -> None:
        self._layout = layout
        self._removals = removals
        self._users = users
        self._now = now

    def close(self, each: DesiredEntry) -> None:
        """Keep a refused StaticRoute where it is, with the subnets that it had there, for the nodes that have it."""
        name = each.route.name
        self._remove_unselected(each)
        spots = self._layout.spots.get(name, ())
        each.spot = self._layout.find_newest(name, spots)
        for spot in tuple(spots):
            present = self._layout.entry(spot, name)
            since = present.closed_since or self.closing_time
            closed = present if present.closed_since is not None else replace(present, closed_since=since)
            self._layout.put(spot, closed)
            if spot == each.spot and not is_rollout_set(spot[0]) and not each.is_revision(present):
                self._narrow(each, spot, present, since)

    def _remove_unselected(self, each: DesiredEntry) -> None:
        """Remove a StaticRoute from the sets of an earlier selector of whose nodes it selects none any more."""
        name, present = each.route.name, shared_set_name(each.route)
        for spot in tuple(self._layout.spots.get(name, ())):
            if spot[0] == present or is_rollout_set(spot[0]):
                continue
            if any(each.route.selects(user.node) for user in self._users.users(spot[0])):
                continue
            if not self._removals.find_needed(spot, name, find_keys(self._layout.entry(spot, name))):
                self._layout.remove(spot, name, self._now)

    def _narrow(self, each: DesiredEntry, spot: Spot, present: SliceEntry, since: datetime) -> None:
        """Apply a later revision of a refused StaticRoute to the subnets that it has and still specifies."""
        had = frozenset(present.subnets)
        subnets = tuple(subnet for subnet in each.entry.subnets if subnet in had)
        narrowed = replace(each.entry, subnets=subnets, closed_since=since)
        if self._removals.find_needed(spot, each.route.name, find_lost(present, narrowed)):
            return
        if subnets:
            self._layout.put(spot, narrowed)
        else:
            self._layout.remove(spot, each.route.name, self._now)
            each.spot = None

    @property
    def closing_time(self) -> datetime:
        """Return a time that is not before that of any node with the set, whatever clock it was written by."""
        latest = self._users.latest_since
        return self._now if latest is None else max(self._now, latest)
