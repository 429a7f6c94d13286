"""Looks up what the NodeOverlayIp of a node has about routes: its route sets, and what its agent has not confirmed."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime, timedelta

from overlay_net.controller.slice_index import SliceIndex
from overlay_net.domain.routes.merge import find_missing, select_entries
from overlay_net.domain.routes.node_sets import NodeSets, find_fitting, find_route_sets
from overlay_net.domain.routes.set_states import RouteSets
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.node_actions import Removal
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import Revision
from overlay_net.model.route_slice import FIRST, NamedSet, RouteSlice
from overlay_net.model.slice_entry import SliceWithdrawal
from overlay_net.runtime.store import Store


class NodeRouteSets:
    """Selectors are compared once for a node, and again if its labels or the selectors that exist change."""

    def __init__(self, nodes: Store[Node]) -> None:
        self._sets = RouteSets()
        self._fitting: dict[str, frozenset[str]] = {}
        """The shared sets that fit a node."""
        self._subscribers: list[Callable[[RouteSets, RouteSets], None]] = []
        self.decisions = 0
        """How often the decision changed which StaticRoutes are refused."""
        nodes.subscribe(self._node_changed)

    @property
    def sets(self) -> RouteSets:
        """The sets that exist, as of the last plan of the slices."""
        return self._sets

    def subscribe(self, subscriber: Callable[[RouteSets, RouteSets], None]) -> None:
        """Call ``subscriber(old, new)`` after each change that may concern nodes."""
        self._subscribers.append(subscriber)

    def unsettle(self) -> None:
        """Note that other StaticRoutes are refused. Until the slices say so, no node begins to name a set.

        Its Node may be the very reason, and the route would cut it off.
        """
        self.decisions += 1
        self._sets = replace(self._sets, settled=False)

    def replace(self, sets: RouteSets, decisions: int | None = None) -> None:
        """Replace the sets that exist, which were planned after so many ``decisions``. Only SliceReconciler does so."""
        if decisions not in (None, self.decisions):
            sets = replace(sets, settled=False)
        before, self._sets = self._sets, sets
        if _selectors(sets) != _selectors(before):
            self._fitting.clear()
        for subscriber in self._subscribers if sets != before else ():
            subscriber(before, sets)

    def find(
        self, node: Node, overlay: NodeOverlay | None, admitted: Mapping[Revision, frozenset[str]], now: datetime
    ) -> NodeSets:
        """Return the sets that the NodeOverlayIp of the node must name."""
        return find_route_sets(node, overlay, self.fitting(node), self._sets, admitted, now)

    def fitting(self, node: Node) -> frozenset[str]:
        """Return the shared sets whose selector fits the node."""
        found = self._fitting.get(node.name)
        if found is None:
            found = self._fitting[node.name] = find_fitting(node, self._sets)
        return found

    def _node_changed(self, name: str, old: Node | None, new: Node | None) -> None:
        if old is None or new is None or old.labels != new.labels:
            self._fitting.pop(name, None)


def _selectors(sets: RouteSets) -> Set[str]:
    return {name for name, each in sets.shared.items() if each.route is not None}


class SliceReports:
    """What the reports of agents say about the slices of their nodes. ``clock`` is in seconds."""

    def __init__(
        self, slices: Store[RouteSlice], index: SliceIndex, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._index = index
        self._clock = clock
        self._known: dict[str, dict[SliceWithdrawal, float]] = {}
        """By slice: its removals, and when each was first observed."""
        self._latest: dict[str, int] = {}
        """By slice: the latest generation that removed a StaticRoute."""
        slices.subscribe(self._slice_changed)

    def has_observed(self, overlay: NodeOverlay) -> bool:
        """Return whether the agent has reported every slice of the node's sets in its present generation."""
        observed = overlay.report.observed_slices
        if observed is None or overlay.route_sets is None or not overlay.is_current:
            return False
        return all(self._is_observed(named, observed) for named in overlay.route_sets)

    def _is_observed(self, named: NamedSet, observed: Mapping[str, int]) -> bool:
        present = self._index.by_set.get(named.name, {})
        if find_missing(named.name, present):
            return False
        return all(
            observed.get(present[index].name, -1) >= present[index].generation
            for index in present[FIRST].content.slices
        )

    def find_observed_subnets(self, overlay: NodeOverlay) -> Set[IpNetwork]:
        """Return the subnets of all routes that the agent has read, whether they are in place or not."""
        observed = overlay.report.observed_slices
        if observed is None:
            return {route.subnet for route in overlay.routes} if overlay.is_current else set()
        return {
            subnet
            for named, found in self._slices(overlay.route_sets or ())
            for entry in found.content.entries
            if entry.applies_since(named.since) and observed.get(found.name, -1) >= entry.slice_generation
            for subnet in entry.subnets
        }

    def find_gateways(self, overlay: NodeOverlay) -> Set[IpAddress]:
        """Return the gateways of the routes that the node has."""
        entries = select_entries(overlay.route_sets or (), self._index.by_set).entries.values()
        specs = [*(entry.spec for entry in entries), *(route.spec for route in overlay.routes)]
        default = {overlay.assignment.gateway} if overlay.assignment.gateway is not None else set()
        return default | {gateway.address for spec in specs for gateway in spec.gateways}

    def find_static_routes(self, sets: Iterable[NamedSet]) -> Set[str]:
        """Return the StaticRoutes in these sets."""
        return select_entries(sets, self._index.by_set).entries.keys()

    def find_removals(self, overlay: NodeOverlay, sets: Iterable[NamedSet]) -> tuple[Removal, ...]:
        """Return the removals from slices of these sets that the agent has not confirmed.

        A StaticRoute that the node still has, in another slice, was not removed. An agent that has never reported a
        slice has had nothing of it.
        """
        observed = overlay.report.observed_slices
        if observed is None:
            return self._find_removed_earlier(overlay, sets)
        found = [
            (withdrawal.static_route, since)
            for _, each in self._slices(sets)
            if observed.get(each.name, each.generation) < self._latest.get(each.name, 0)
            for withdrawal, since in self._known[each.name].items()
            if observed[each.name] < withdrawal.slice_generation
        ]
        return self._describe_removals(overlay, found)

    def _find_removed_earlier(self, overlay: NodeOverlay, sets: Iterable[NamedSet]) -> tuple[Removal, ...]:
        """Return the removals that concern an agent of an earlier version, which has the routes of the object."""
        names = {route.static_route for route in overlay.routes}
        found = [
            (withdrawal.static_route, since)
            for _, each in self._slices(sets if names else ())
            for withdrawal, since in self._known.get(each.name, {}).items()
            if withdrawal.static_route in names
        ]
        return self._describe_removals(overlay, found)

    def _describe_removals(self, overlay: NodeOverlay, found: Sequence[tuple[str, float]]) -> tuple[Removal, ...]:
        if not found:
            return ()
        present = self.find_static_routes(overlay.route_sets or ())
        now = self._clock()
        return tuple(Removal(name, timedelta(seconds=now - since)) for name, since in found if name not in present)

    def _slices(self, sets: Iterable[NamedSet]) -> Iterator[tuple[NamedSet, RouteSlice]]:
        """Yield each slice of the sets, also of incomplete ones."""
        for named in sets:
            for each in self._index.by_set.get(named.name, {}).values():
                yield named, each

    def _slice_changed(self, name: str, _: RouteSlice | None, new: RouteSlice | None) -> None:
        before = self._known.pop(name, {})
        self._latest.pop(name, None)
        if new is not None and new.content.withdrawn:
            now = self._clock()
            self._known[name] = {each: before.get(each, now) for each in new.content.withdrawn}
            self._latest[name] = max(each.slice_generation for each in new.content.withdrawn)
