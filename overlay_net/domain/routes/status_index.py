"""On which nodes a StaticRoute is not simply in place, and which StaticRoutes a change concerns.

Fed with Nodes, NodeOverlayIps, StaticRoutes and slices in any order. A change of a node costs what is different on it,
and a status is computed from the exceptions of its StaticRoute, not from all nodes (see ``node_states``).
"""

from collections.abc import Collection, Iterable, Iterator, Set
from itertools import chain

from overlay_net.domain.routes.members import Members
from overlay_net.domain.routes.node_changes import NodeChange
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.occurrences import Occurrence, Occurrences
from overlay_net.domain.routes.reported import Reported
from overlay_net.domain.routes.route_sets import route_set_name, shared_set_name
from overlay_net.domain.routes.static_route_index import StaticRouteIndex
from overlay_net.domain.routes.status_changes import Priority, StatusChanges
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_slice import FIRST, RouteSlice
from overlay_net.model.static_route import StaticRoute


class StatusIndex:
    def __init__(self) -> None:
        self.changes = StatusChanges()
        self.tables: dict[str, NodeTable] = {}
        self.routes: dict[str, StaticRoute] = {}
        self.occurrences = Occurrences()
        self.reported = Reported()
        self.lookup = StaticRouteIndex()
        self._members: dict[str, Members] = {}
        """By the name of the shared set of the selector."""
        self._of_node: dict[str, tuple[Members, ...]] = {}
        self._generations: dict[str, dict[str, int]] = {}
        """Of each slice, by names of set and slice."""
        self._concerned: dict[str, frozenset[str]] = {}
        """By set, the StaticRoutes that are concerned if a node gets or loses it: thousands of nodes may do so."""

    # --- What there is ------------------------------------------------------------------------------------------------

    def find_members(self, route: StaticRoute) -> Members:
        return self._members[shared_set_name(route)]

    def is_member(self, node: str, members: Members) -> bool:
        return members in self._of_node.get(node, ())

    # --- Changes ------------------------------------------------------------------------------------------------------

    def update_route(self, name: str, present: StaticRoute | None) -> None:
        """Replace a StaticRoute. A change of its status alone marks nothing."""
        before = self.routes.get(name)
        if before is not None and present is not None and present.differs_in_status_only(before):
            self.routes[name] = present
            return
        self.changes.mark([name])
        self._concerned.clear()
        if before is not None:
            self._remove_route(before)
        if present is not None:
            self._add_route(present)

    def _add_route(self, route: StaticRoute) -> None:
        self.routes[route.name] = route
        self.lookup.replace(route.name, None, route)
        selector, home = shared_set_name(route), route_set_name(route)
        members = self._members.get(selector)
        if members is None:
            members = self._members[selector] = Members(route, self.tables.items())
            for node in members.nodes:
                self._of_node[node] += (members,)
        members.routes.add(route.name)
        if home not in members.sets:
            members.add_set(home, self._generations.get(home, {}), self.tables)

    def _remove_route(self, route: StaticRoute) -> None:
        del self.routes[route.name]
        self.lookup.replace(route.name, route, None)
        selector, home = shared_set_name(route), route_set_name(route)
        members = self._members[selector]
        members.routes.discard(route.name)
        if not self.lookup.by_set[home]:
            del members.sets[home]
        if not members.routes:
            del self._members[selector]
            for node in members.nodes:
                self._of_node[node] = tuple(each for each in self._of_node[node] if each is not members)

    def update_slice(self, name: str, present: RouteSlice | None) -> None:
        """Replace a slice."""
        if present is not None and (present.deleting or present.index < FIRST):
            present = None
        for occurrence in self.occurrences.update(name, present):
            self._concerned.clear()
            self.changes.mark(self._concerned_by_entry(occurrence))
        route_set = name.rpartition("-")[0]
        generation = None if present is None else present.generation
        if generation is not None:
            self._generations.setdefault(route_set, {})[name] = generation
        elif not self._generations.get(route_set, {}).pop(name, None):
            return
        members = self._members_with(route_set)
        if members is not None:
            members.set_generation(route_set, name, generation, self.tables)
        if not self._generations[route_set]:
            del self._generations[route_set]

    def _members_with(self, route_set: str) -> Members | None:
        """Return the nodes that must have a set; None: no StaticRoute belongs to it."""
        name = next(iter(self.lookup.by_set[route_set]), None)
        return None if name is None else self.find_members(self.routes[name])

    def update_node(self, name: str, node: Node | None, overlay: NodeOverlay | None) -> None:
        """Replace a node. ``node`` is None if no agent runs on it."""
        before = self.tables.get(name)
        after = None if node is None or overlay is None or overlay.deleting else NodeTable.index(node, overlay)
        self.changes.mark(self.lookup.by_node[name])
        if before == after:
            return
        was = self._of_node.pop(name, ())
        self.tables.pop(name, None)
        now: tuple[Members, ...] = ()
        if after is not None:
            self.tables[name] = after
            same_labels = before is not None and before.node.labels == after.node.labels
            now = was if same_labels else tuple(each for each in self._members.values() if each.selects(after.node))
            self._of_node[name] = now
        self._replace_member(name, before, after, was, now)
        self.reported.update(name, before, after)
        if before is not None and after is not None:
            self._mark_changes(NodeChange(before, after), now)

    def _replace_member(
        self,
        name: str,
        before: NodeTable | None,
        after: NodeTable | None,
        was: Iterable[Members],
        now: Iterable[Members],
    ) -> None:
        for members in was:
            if members in now:
                members.replace(name, before, after)
            else:
                members.replace(name, before, None)
                self._mark_member(members, before)
        for members in now:
            if members not in was:
                members.replace(name, None, after)
                self._mark_member(members, after)

    def _mark_member(self, members: Members, table: NodeTable | None) -> None:
        """Mark the StaticRoutes of a selector that selects a node now, or no longer."""
        self.changes.mark(members.routes, Priority.GRADUAL)
        if table is None:
            return
        if any(table.common_faults):
            self.changes.mark(members.routes, Priority.URGENT)
        else:
            self._mark_failing([members], table.failures, table.route_probes, table.silent)

    def _mark_failing(
        self,
        members: Iterable[Members],
        keys: Iterable[RouteKey],
        probed: Iterable[str],
        silent: Collection[IpAddress],
    ) -> None:
        """Mark the StaticRoutes that these routes, route probes and gateways concern."""
        failing = {*probed, *chain.from_iterable(self.lookup.by_key[key] for key in keys)}
        if silent:
            failing.update(self.lookup.without_gateway, *(self.lookup.by_gateway[address] for address in silent))
        for each in members if failing else ():
            self.changes.mark(failing & each.routes, Priority.URGENT)

    def _mark_changes(self, change: NodeChange, members: Iterable[Members]) -> None:
        """Mark the StaticRoutes that a change of a node concerns."""
        mark = self.changes.mark
        self._mark_failing(members, change.failing, change.probed, change.silent)
        if change.concerns_all:
            for each in members:
                mark(each.routes, change.common_priority)
        mark(change.not_needed)
        for route_set in change.sets:
            mark(self._find_concerned(route_set))
        for name, low, high in change.slices():
            entries = (occurrence.entry for occurrence in self.occurrences.of_slice(name))
            mark((each.name for each in entries if low < each.slice_generation <= high), change.slice_priority)

    def _find_concerned(self, route_set: str) -> Set[str]:
        found = self._concerned.get(route_set)
        if found is None:
            found = self._concerned[route_set] = frozenset(self._concerned_by_set(route_set))
        return found

    def _concerned_by_set(self, route_set: str) -> Iterator[str]:
        """Yield the StaticRoutes that are concerned if a node gets or loses a set."""
        yield from self.lookup.by_set[route_set] | self.lookup.find_rollouts(route_set)
        for name in self._generations.get(route_set, ()):
            for occurrence in self.occurrences.of_slice(name):
                yield from self._concerned_by_entry(occurrence)

    def _concerned_by_entry(self, changed: Occurrence) -> Iterator[str]:
        """Yield the StaticRoutes that are concerned if a node gets or loses an entry: those with a route of it.

        Another entry of the same StaticRoute may apply to the node then.
        """
        name = changed.entry.name
        yield name
        # A set of the keys: the entries of a StaticRoute have nearly always the same ones.
        for key in changed.keys.union(*(each.keys for each in self.occurrences.of_route(name))):
            yield from self.lookup.by_key[key]
