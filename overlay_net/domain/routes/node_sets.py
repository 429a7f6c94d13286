"""Which route sets the NodeOverlayIp of a node names.

A node names every shared set whose selector fits it, and of a StaticRoute with a rollout the set of its revision once
it is the node's turn. Until then, and until the agent has observed the new place, it keeps the set of the earlier
revision, so no route is removed before its replacement is in use. For the same reason nothing changes while the slices
lack something that the StaticRoutes say; nor is it known then which StaticRoutes are closed for a node with a new set.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from overlay_net.domain.routes.rollout import is_later
from overlay_net.domain.routes.set_states import Place, RouteSets, SharedSet, StagedRoute
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import Revision
from overlay_net.model.route_slice import NamedSet
from overlay_net.model.static_route import StaticRoute


@dataclass(frozen=True, slots=True)
class NodeSets:
    """What a NodeOverlayIp must name."""

    named: tuple[NamedSet, ...] | None
    """Sorted by name; None: it names no sets yet, and its ``spec.routes`` stay."""
    complete: bool = True
    """Otherwise the node must be planned again soon: it waits for slices to be written."""


def find_fitting(node: Node, sets: RouteSets) -> frozenset[str]:
    """Return the shared sets whose selector fits the node. Depends on its labels and on the sets that exist only."""
    return frozenset(name for name, each in sets.shared.items() if each.route is not None and each.route.selects(node))


def find_route_sets(
    node: Node,
    overlay: NodeOverlay | None,
    fitting: Collection[str],
    sets: RouteSets,
    admitted: Mapping[Revision, Collection[str]],
    now: datetime,
) -> NodeSets:
    """Return the sets that the NodeOverlayIp must name.

    ``fitting`` is the result of ``find_fitting``. ``admitted`` has the nodes that may get a revision with a rollout.
    """
    present = {each.name: each for each in (overlay.route_sets if overlay is not None else None) or ()}
    fitting = [name for name in fitting if name in sets.shared]
    turns = _Turns(node, overlay, admitted, _find_shared(present, fitting, sets))
    own: defaultdict[str, set[str]] = defaultdict(set)
    for each in present:
        own[sets.rollouts.get(each, "")].add(each)
    for name, staged in sets.staged.items():
        turns.add(staged, own.get(name, ()))
    turns.names |= sets.retaining & present.keys()
    waits = not sets.settled or any(sets.shared[name].open and not sets.shared[name].known for name in fitting)
    if overlay is None or overlay.route_sets is None:
        if waits or turns.must_keep_routes:
            # An object that names only some of the sets of its node would lose the other routes.
            return NodeSets(None, complete=not waits)
    elif waits:
        return NodeSets(overlay.route_sets, complete=turns.names == present.keys())
    named = (present.get(name) or NamedSet(name, _since(name, sets, overlay, now)) for name in sorted(turns.names))
    return NodeSets(tuple(named))


def has_observed(overlay: NodeOverlay, place: Place) -> bool:
    """Return whether the agent has observed the present revision of a StaticRoute at its place, or a later one."""
    observed = overlay.report.observed_slices
    if observed is None or not place.slice_generation or not overlay.is_current:
        return False
    return overlay.names_set(place.route_set) and observed.get(place.slice, 0) >= place.slice_generation


def _find_shared(present: Collection[str], fitting: Collection[str], sets: RouteSets) -> set[str]:
    begun = {name for name in fitting if sets.shared[name].open and sets.shared[name].known}
    kept = {name for name in present if name in fitting or _is_unknown(sets.shared.get(name))}
    return begun | kept


def _is_unknown(found: SharedSet | None) -> bool:
    return found is not None and found.route is None


def _since(name: str, sets: RouteSets, overlay: NodeOverlay | None, now: datetime) -> datetime:
    """Return ``since`` for a node that begins to name the set.

    StaticRoutes that are refused do not apply to it, except those that it has in ``spec.routes`` of an earlier version.
    """
    found = sets.shared.get(name)
    if found is None or not found.closed:
        return now
    has: Collection[str] = ()
    if overlay is not None and overlay.route_sets is None:
        has = {route.static_route for route in overlay.routes}
    excluded = [closed for static_route, closed in found.closed.items() if static_route not in has]
    included = [closed for static_route, closed in found.closed.items() if static_route in has]
    # What the node lacks may be what would cut it off, so that decides if the times do not allow both.
    earliest = min(included, default=now)
    return max(earliest, max(excluded) + timedelta(seconds=1)) if excluded else earliest


class _Turns:
    """Adds the sets of StaticRoutes with a rollout to ``names``, the shared sets of the node."""

    def __init__(
        self,
        node: Node,
        overlay: NodeOverlay | None,
        admitted: Mapping[Revision, Collection[str]],
        names: set[str],
    ) -> None:
        self.names = names
        self.must_keep_routes = False
        """A StaticRoute is held back whose earlier revision is only in ``spec.routes``, of an earlier version."""
        self._node = node
        self._overlay = overlay
        self._admitted = admitted
        self._present = {each.name for each in (overlay.route_sets if overlay is not None else None) or ()}
        self._before: Mapping[str, Revision] | None = None

    def add(self, staged: StagedRoute, own: Collection[str]) -> None:
        """``own`` are the sets of this StaticRoute alone that the node has."""
        if not staged.route.selects(self._node):
            return
        place = staged.place
        if staged.refused or place is None or place.route_set not in self._present:
            self.names.update(own)
            self.must_keep_routes |= staged.refused and self._find_before(staged.route.name) is not None
            if staged.route.rollout is not None and staged.known and not staged.refused and place is not None:
                self._begin(staged, place, own)
            return
        if place.route_set in own:
            self.names.add(place.route_set)
        if self._overlay is None or not has_observed(self._overlay, place):
            self.names.update(own)

    def _begin(self, staged: StagedRoute, place: Place, own: Collection[str]) -> None:
        before = self._find_before(staged.route.name)
        if before == staged.revision or self._is_turn(staged, has_earlier=bool(own) or before is not None):
            self.names.add(place.route_set)
        elif before is not None:
            self.must_keep_routes = True

    def _is_turn(self, staged: StagedRoute, *, has_earlier: bool) -> bool:
        if self._node.name in self._admitted.get(staged.revision, ()):
            return True
        had = staged.previous & self._present
        if has_earlier or had & self.names:
            return False
        # Without an earlier revision to keep, it is better to have the present one than none.
        return bool(had) or self._is_later(staged.route)

    def _is_later(self, route: StaticRoute) -> bool:
        """Return whether the node joined later, or its NodeOverlayIp was re-created and what it had is unknown."""
        overlay = self._overlay
        return is_later(self._node.created, route) or (overlay is not None and is_later(overlay.created, route))

    def _find_before(self, static_route: str) -> Revision | None:
        """Return the revision in ``spec.routes``, which an earlier version wrote; ("", 0) if it is unknown."""
        if self._before is None:
            self._before = _find_revisions(self._overlay)
        return self._before.get(static_route)


def _find_revisions(overlay: NodeOverlay | None) -> Mapping[str, Revision]:
    if overlay is None or overlay.route_sets is not None:
        return {}
    recorded = {each.static_route: each.revision for each in overlay.generations}
    return {route.static_route: ("", 0) for route in overlay.routes} | recorded
