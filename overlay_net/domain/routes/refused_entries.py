"""Closes the entries of refused StaticRoutes: the nodes that have the routes keep them, others do not get them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from overlay_net.domain.routes.desired_entries import DesiredEntry
from overlay_net.domain.routes.entry_keys import find_lost
from overlay_net.domain.routes.retained_routes import RetainedRoutes
from overlay_net.domain.routes.route_sets import is_rollout_set, shared_set_name
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, Spot
from overlay_net.model.slice_entry import SliceEntry


class RefusedEntries:
    """The changes of one plan."""

    def __init__(self, layout: Layout, retained: RetainedRoutes, users: SetUsers) -> None:
        self._layout = layout
        self._retained = retained
        self._users = users

    def adopt(self, refused: Iterable[DesiredEntry]) -> None:
        """Add the refused StaticRoutes that are in no slice, but in objects that an earlier version wrote.

        Each number of nodes gets another time, the lowest one the earliest: a node that has only some of these
        StaticRoutes usually has those that most nodes have. ``find_route_sets`` chooses ``since`` accordingly.
        """
        candidates = {
            each.route.name: each
            for each in refused
            if each.route.name not in self._layout.spots and each.route.rollout is None
        }
        found = self._users.find_earlier(candidates.keys())
        counts = sorted({each.nodes for each in found.values()})
        start = self._retained.closing_time
        for name, earlier in found.items():
            each = candidates[name]
            subnets = tuple(subnet for subnet in each.entry.subnets if subnet in earlier.subnets)
            if subnets:
                since = start + timedelta(seconds=counts.index(earlier.nodes))
                spot = self._layout.find_room(each.route_set, len(subnets)) or self._layout.add_slice(each.route_set)
                self._layout.put(spot, replace(each.entry, subnets=subnets, closed_since=since))

    def close(self, each: DesiredEntry) -> None:
        """Keep a refused StaticRoute where it is, with the subnets that it had there, for the nodes that have it."""
        name = each.route.name
        self._remove_unselected(each)
        spots = self._layout.spots.get(name, ())
        each.spot = self._layout.find_newest(name, spots)
        for spot in tuple(spots):
            present = self._layout.entry(spot, name)
            since = present.closed_since or self._retained.closing_time
            closed = present if present.closed_since is not None else replace(present, closed_since=since)
            self._layout.put(spot, closed)
            if spot == each.spot and not is_rollout_set(spot[0]) and not each.is_revision(present):
                self._narrow(each, spot, present, since)

    def _remove_unselected(self, each: DesiredEntry) -> None:
        """Remove a StaticRoute from the sets of an earlier selector of whose nodes it selects none any more."""
        name, present = each.route.name, shared_set_name(each.route)
        for spot in tuple(self._layout.spots.get(name, ())):
            if is_rollout_set(spot[0]):
                self._retained.leave_unselected(spot, each.route)
                continue
            if spot[0] == present or any(each.route.selects(user.node) for user in self._users.users(spot[0])):
                continue
            self._retained.remove(spot, name)

    def _narrow(self, each: DesiredEntry, spot: Spot, present: SliceEntry, since: datetime) -> None:
        """Apply a later revision of a refused StaticRoute to the subnets that it has and still specifies."""
        had = frozenset(present.subnets)
        subnets = tuple(subnet for subnet in each.entry.subnets if subnet in had)
        if subnets:
            narrowed = replace(each.entry, subnets=subnets, closed_since=since)
            self._retained.retain(spot, each.route.name, find_lost(present, narrowed))
            self._layout.put(spot, narrowed)
        else:
            self._retained.remove(spot, each.route.name)
            each.spot = None
