"""How long route sets exist: until no StaticRoute needs them, no node names them, and a grace time has passed."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from overlay_net.domain.routes.desired_entries import DesiredEntries, DesiredEntry
from overlay_net.domain.routes.merge import find_missing
from overlay_net.domain.routes.route_sets import is_rollout_set
from overlay_net.domain.routes.set_states import Place, RouteSets, SharedSet, StagedRoute
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout
from overlay_net.domain.routes.slice_writes import SliceWrite
from overlay_net.model.route_slice import FIRST, RouteSlice, slice_name
from overlay_net.model.static_route import StaticRoute

IDLE_TIME: Final = 300.0
"""Seconds for which nodes keep an empty shared set, so that replacing its only StaticRoute costs no write per node."""

GRACE: Final = 60.0
"""Seconds for which no node may name a set before its slices are deleted."""

NAMED_AGAIN: Final = 10.0
"""Seconds until it is checked again whether nodes still name a set that is not needed any more."""


class SetLife:
    """``clock`` is the time of this process in seconds."""

    def __init__(self) -> None:
        self._homes: frozenset[str] = frozenset()
        """The sets with the present revision of a StaticRoute."""
        self._routes: dict[str, StaticRoute] = {}
        """For each shared set, a StaticRoute with its selector."""
        self._idle: dict[str, float] = {}
        """Since when shared sets are empty."""
        self._unnamed: dict[str, float] = {}
        """Since when no node names the sets that are not needed any more."""
        self._has_named = False
        """Nodes still name a set that is not needed any more."""

    def adopt_rollouts(self, layout: Layout, slices: Mapping[str, Mapping[int, RouteSlice]], users: SetUsers) -> None:
        """Keep the sets of rollouts that nodes have, even if they named them only after they were given up."""
        for route_set, found in slices.items():
            if route_set not in layout.sets and is_rollout_set(route_set) and users.count(route_set):
                layout.adopt(route_set, found.items())

    def update(self, layout: Layout, desired: DesiredEntries, users: SetUsers, clock: float) -> None:
        """Give up the sets that are not needed any more."""
        self._homes = frozenset(each.route_set for each in desired if not each.refused)
        self._routes |= {each.route_set: each.route for each in desired if each.route.rollout is None}
        before, self._idle = self._idle, {}
        self._has_named = False
        for route_set in tuple(layout.sets):
            if not self._is_needed(layout, route_set, users, before, clock):
                layout.drop_set(route_set)
        self._routes = {name: route for name, route in self._routes.items() if name in layout.sets}

    def _is_needed(
        self, layout: Layout, route_set: str, users: SetUsers, before: Mapping[str, float], clock: float
    ) -> bool:
        if route_set in self._homes:
            return True
        if is_rollout_set(route_set):
            is_named = users.count(route_set) > 0
            self._has_named |= is_named
            return is_named
        if layout.has_content(route_set):
            return True
        self._idle[route_set] = since = before.get(route_set, clock)
        if clock - since < IDLE_TIME:
            for index in layout.indices(route_set):
                if index != FIRST:
                    layout.drop_slice((route_set, index))
            return True
        del self._idle[route_set]
        return False

    def plan_deletions(
        self, layout: Layout, present: Mapping[str, RouteSlice], users: SetUsers, clock: float
    ) -> Iterator[SliceWrite]:
        """Yield the deletion of the slices that are not needed: a set that no node names is observed twice."""
        needed = {slice_name(*spot) for spot in layout}
        before, self._unnamed = self._unnamed, {}
        for name, each in present.items():
            if name in needed or each.deleting:
                continue
            if each.route_set not in layout.sets:
                if users.count(each.route_set):
                    self._has_named = True
                    continue
                self._unnamed[each.route_set] = before.get(each.route_set, clock)
                if clock - self._unnamed[each.route_set] < GRACE:
                    continue
            yield SliceWrite(name, each.index, None, each)

    def next_change(self, clock: float) -> float | None:
        """Return the seconds until a set may be given up or deleted."""
        ends = [since + IDLE_TIME for since in self._idle.values()]
        ends += [since + GRACE for since in self._unnamed.values()]
        if self._has_named:
            # No event of a NodeOverlayIp starts a plan.
            ends.append(clock + NAMED_AGAIN)
        return max(0.0, min(ends) - clock) if ends else None

    # --- What nodes may name ------------------------------------------------------------------------------------------

    def describe(
        self,
        layout: Layout,
        desired: DesiredEntries,
        slices: Mapping[str, Mapping[int, RouteSlice]],
        *,
        settled: bool,
    ) -> RouteSets:
        known = {name for name in layout.sets if not find_missing(name, slices.get(name, {}))}
        return RouteSets(
            {name: self._describe_shared(layout, name, name in known) for name in layout.sets if _is_shared(name)},
            dict(self._find_staged(layout, desired, known)),
            {
                name: static_route
                for name, found in layout.sets.items()
                if is_rollout_set(name)
                for each in found.values()
                for static_route in each.entries
            },
            frozenset(name for name in layout.sets if is_rollout_set(name) and layout.has_retained(name)),
            settled,
        )

    def _describe_shared(self, layout: Layout, name: str, known: bool) -> SharedSet:
        closed: dict[str, datetime] = {}
        for found in layout.sets[name].values():
            for entry in (*found.entries.values(), *found.retained):
                if entry.closed_since is not None:
                    closed[entry.name] = max(entry.closed_since, closed.get(entry.name, entry.closed_since))
        return SharedSet(self._routes.get(name), name in self._homes, known, closed)

    def _find_staged(
        self, layout: Layout, desired: Iterable[DesiredEntry], known: set[str]
    ) -> Iterator[tuple[str, StagedRoute]]:
        for each in desired:
            name, route = each.route.name, each.route
            sets = {route_set for route_set, _ in layout.spots.get(name, ())}
            if route.rollout is None and not any(map(is_rollout_set, sets)):
                continue
            place = _find_place(layout, each)
            previous = frozenset(found for found in sets if _is_shared(found) and found != each.route_set)
            yield (
                name,
                StagedRoute(
                    route, route.revision, each.refused, place, place is not None and place.route_set in known, previous
                ),
            )


def _find_place(layout: Layout, each: DesiredEntry) -> Place | None:
    """Return where the present revision of a StaticRoute is, or if it is refused, the latest one."""
    found = layout.find(each.spot) if each.spot is not None else None
    if each.spot is None or found is None:
        return None
    entry = found.entries.get(each.route.name)
    if entry is None or not (each.refused or each.is_revision(entry)):
        return None
    return Place(each.spot[0], slice_name(*each.spot), found.generations.get(each.route.name, 0))


def _is_shared(route_set: str) -> bool:
    return not is_rollout_set(route_set)
