"""Keeps the index for the status of StaticRoutes, and the counts for metrics, in line with the caches."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import chain

from overlay_net.controller.caches import Caches
from overlay_net.domain.routes.status_changes import Priority
from overlay_net.domain.routes.status_index import StatusIndex
from overlay_net.domain.status.cluster_counts import ClusterCounts
from overlay_net.domain.status.static_route_counts import StaticRouteCounts
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime.turns import in_turns


class StatusFeed:
    """``changed`` is called after each change.

    ``expected`` returns whether a StaticRoute has the status that was written last.
    """

    def __init__(self, caches: Caches, changed: Callable[[], None], expected: Callable[[StaticRoute], bool]) -> None:
        self._caches = caches
        self._changed = changed
        self._expected = expected
        self.index = StatusIndex()
        self.nodes = ClusterCounts()
        self.static_routes = StaticRouteCounts()
        self.filled = asyncio.Event()
        """Set once everything that the caches had at first is in the index. Before, no count is complete."""
        self._filling = asyncio.Lock()
        caches.nodes.subscribe(self._node_changed)
        caches.overlays.subscribe(self._overlay_changed)
        caches.routes.subscribe(self._route_changed)
        caches.slices.subscribe(self._slice_changed)
        caches.protected.subscribe(self._protection_changed)

    async def fill(self) -> None:
        """Add what the caches have, once. With thousands of nodes this takes a second, in turns of the event loop."""
        async with self._filling:
            if self.filled.is_set():
                return
            caches = self._caches
            async for name in in_turns(caches.routes.names()):
                self._update_route(name)
            async for name in in_turns(caches.slices.names()):
                self.index.update_slice(name, caches.slices.get(name))
            async for name in in_turns(dict.fromkeys(chain(caches.nodes.names(), caches.overlays.names()))):
                self._update_node(name)
            self.filled.set()
            self._changed()

    def mark_all(self) -> None:
        """Compare the status of every StaticRoute again."""
        self.index.changes.mark(self._caches.routes.names())
        self._changed()

    def _node_changed(self, name: str, old: Node | None, new: Node | None) -> None:
        # Heartbeats change a node all the time.
        if old != new:
            self._update_node(name)
            self._changed()

    def _overlay_changed(self, name: str, _: NodeOverlay | None, __: NodeOverlay | None) -> None:
        self._update_node(name)
        self._changed()

    def _update_node(self, name: str) -> None:
        node, overlay = self._caches.nodes.get(name), self._caches.overlays.get(name)
        if node is not None and not self._caches.has_agent(node):
            node = None
        self.index.update_node(name, node, overlay)
        self.nodes.update(name, node, overlay)

    def _route_changed(self, name: str, old: StaticRoute | None, new: StaticRoute | None) -> None:
        self._update_route(name)
        if new is not None and (old is None or old.revision != new.revision):
            # People wait for the status of what they have just created or edited.
            self.index.changes.mark([name], Priority.URGENT)
        elif new is not None and not self._expected(new):
            self.index.changes.mark([name])
        self._changed()

    def _update_route(self, name: str) -> None:
        route = self._caches.routes.get(name)
        self.index.update_route(name, route)
        self.static_routes.update(name, None if route is None or route.deleting else route.conditions)

    def _slice_changed(self, name: str, _: RouteSlice | None, new: RouteSlice | None) -> None:
        self.index.update_slice(name, new)
        self._changed()

    def _protection_changed(self, static_routes: Iterable[str]) -> None:
        self.index.changes.mark(static_routes)
        self._changed()
