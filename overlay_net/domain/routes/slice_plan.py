"""Plans the OverlayRouteSlices: which slice has which StaticRoute, and the writes to get there.

What moves is written at its new place first; the old entry is removed once every node has observed that. A route that
passes from one StaticRoute to another is retained where it was for as long. So each write leaves a state in which no
node lacks a route, and a controller that stops in between continues from the objects.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from overlay_net.domain.routes.desired_entries import DesiredEntries
from overlay_net.domain.routes.entry_moves import EntryMoves
from overlay_net.domain.routes.protected_subnets import RouteCheck
from overlay_net.domain.routes.removal_check import LONGEST_WAIT, RemovalCheck
from overlay_net.domain.routes.retained_routes import RetainedRoutes
from overlay_net.domain.routes.set_life import SetLife
from overlay_net.domain.routes.set_states import RouteSets
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import MAX_ROUTES, Layout
from overlay_net.domain.routes.slice_writes import SliceWrite, compare, plan_writes
from overlay_net.model.route_slice import FIRST, RouteSlice, by_set, slice_name
from overlay_net.model.static_route import StaticRoute

AGAIN: Final = 1.0
"""Seconds until a plan that waits for agents is made again."""

AGAIN_IN_ROLLOUT: Final = 10.0
"""The same if it has waited so long that it waits for a rollout."""


@dataclass(frozen=True, slots=True)
class SlicePlan:
    steps: tuple[tuple[SliceWrite, ...], ...]
    """The writes of a step may be carried out at once; after a failed one, no further step."""
    sets: RouteSets
    """The sets that nodes may name now."""
    again_after: timedelta | None
    """When to plan again although nothing has changed."""


class SlicePlanner:
    """Keeps the layout between plans, so that slices that were edited or deleted get back what they had.

    A new planner takes the layout from the slices.
    """

    def __init__(self, max_routes: int = MAX_ROUTES) -> None:
        self._max_routes = max_routes
        self._layout: Layout | None = None
        self._desired = DesiredEntries()
        self._waiting: dict[Hashable, float] = {}
        self._life = SetLife()

    def plan(
        self,
        static_routes: Iterable[StaticRoute],
        check: RouteCheck,
        present: Mapping[str, RouteSlice],
        users: SetUsers,
        now: datetime,
        clock: float,
    ) -> SlicePlan:
        """Return the next writes; none once the slices are as they must be.

        ``present`` are all slices by name, from a complete list. ``clock`` is the time of this process in seconds.
        """
        layout = self._layout = self._layout or Layout(present.values(), self._max_routes)
        slices = by_set(present.values())
        self._desired.update(static_routes, check)
        self._life.adopt_rollouts(layout, slices, users)
        for spot in layout:
            compare(layout.get(spot), present.get(slice_name(*spot)))
        removals = RemovalCheck(layout, self._desired, users, clock, self._waiting)
        latest = users.latest_since
        retained = RetainedRoutes(layout, removals, users, now, now if latest is None else max(now, latest))
        moves = EntryMoves(layout, self._desired, removals, retained, users)
        moves.place()
        moves.remove()
        retained.release()
        self._waiting = removals.waiting
        self._life.update(layout, self._desired, users, clock)
        moves.compact()
        writes = tuple(plan_writes(layout, present, self._describe(), users, now))
        deletions = tuple(self._life.plan_deletions(layout, present, users, clock))
        steps = (
            tuple(write for write in writes if write.index != FIRST),
            tuple(write for write in writes if write.index == FIRST),
            deletions,
        )
        return SlicePlan(
            tuple(step for step in steps if step),
            self._life.describe(layout, self._desired, slices, settled=not writes),
            self._again_after(clock),
        )

    def _describe(self) -> Mapping[str, str]:
        """Return a text for each set."""
        return {each.route_set: each.selector for each in self._desired}

    def _again_after(self, clock: float) -> timedelta | None:
        waits = [AGAIN if clock - since < LONGEST_WAIT else AGAIN_IN_ROLLOUT for since in self._waiting.values()]
        change = self._life.next_change(clock)
        ends = [*waits, change] if change is not None else waits
        return timedelta(seconds=min(ends)) if ends else None
