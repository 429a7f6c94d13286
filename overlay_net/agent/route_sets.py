"""Resolves the object of this node: its routes are those of its route sets, or of spec.routes of an earlier version."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Protocol

from overlay_net.domain.routes.merge import entry_routes, merge_routes
from overlay_net.domain.routes.node_routes import (
    KnownSlices,
    NodeStaticRoutes,
    earlier_static_routes,
    find_generations,
    find_static_routes,
    keep_earlier,
)
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.runtime.offload import offload


class Slices(Protocol):
    """The slices of the selected sets; ``version`` increases when they change."""

    @property
    def version(self) -> int: ...
    @property
    def is_awaited(self) -> bool: ...
    def known(self) -> KnownSlices: ...
    def select(self, names: Collection[str]) -> None: ...


class RouteResolver:
    """``last_applied`` returns the object that an earlier run applied last, or None if unknown.

    It is called only if this run has not known all sets of the node yet.
    """

    def __init__(self, slices: Slices, last_applied: Callable[[], NodeOverlay | None]) -> None:
        self._slices = slices
        self._last_applied = last_applied
        self._before: NodeStaticRoutes | None = None
        """What the node had at the last call; None: unknown, or ``_routes`` has it."""
        self._routes: NodeOverlay | None = None
        """The object of the last call, if that has its routes itself."""
        self._since_start = True
        """Whether the sets of the node have not all been known yet."""
        self._resolved: tuple[NodeOverlay, int, NodeOverlay] | None = None
        """The last object, the version of the slices, and the result."""
        self._merger = _Merger()

    def follow(self, overlay: NodeOverlay | None) -> bool:
        """Read the slices of this object's sets. Returns False while it is worth waiting for them."""
        named = () if overlay is None or overlay.deleting else overlay.route_sets
        self._slices.select([each.name for each in named or ()])
        return not self._slices.is_awaited

    async def resolve(self, overlay: NodeOverlay) -> NodeOverlay:
        """Return the object with the routes that it specifies; the same value as before if nothing has changed."""
        version = self._slices.version
        last = self._resolved
        if last is None or last[0] is not overlay or last[1] != version:
            last = self._resolved = (overlay, version, await self._resolve(overlay))
        return last[2]

    def resolved(self, overlay: NodeOverlay | None) -> NodeOverlay | None:
        """Return the last result, if that is about this object but for its report."""
        if overlay is None or self._resolved is None:
            return None
        last, _, result = self._resolved
        return result if last is overlay or last.differs_in_report(overlay) else None

    async def _resolve(self, overlay: NodeOverlay) -> NodeOverlay:
        if overlay.deleting:
            return overlay
        if overlay.route_sets is None and overlay.has_routes:
            self._before, self._routes, self._since_start = None, overlay, False
            return overlay
        found = find_static_routes(overlay, self._slices.known())
        if found.is_complete:
            self._since_start = False
        else:
            found = keep_earlier(found, self._find_before(overlay), since_start=self._since_start)
        if found.is_complete or self._before is not None:
            self._before, self._routes = found, None
        gateway = None if overlay.routes_only else overlay.assignment.gateway
        routes = await self._merger.merge(found.entries, gateway)
        return replace(
            overlay,
            routes=routes,
            generations=find_generations(found.entries, routes),
            slices=found.slices,
            unknown_sets=found.unknown,
        )

    def _find_before(self, overlay: NodeOverlay) -> NodeStaticRoutes | None:
        """Return what the node had, from ``spec.routes`` or from the checkpoint if this run does not know it."""
        if self._before is None:
            source = self._routes or (overlay if overlay.has_routes else self._last_applied())
            self._before = earlier_static_routes(source) if source is not None else None
        return self._before


class _Merger:
    """Merges StaticRoutes; what has not changed since the last call is the same value as then."""

    def __init__(self) -> None:
        self._entries: tuple[SliceEntry, ...] = ()
        self._gateway: IpAddress | None = None
        self._known_routes: dict[tuple[str, bool], tuple[SliceEntry, tuple[DesiredRoute, ...]]] = {}
        """By StaticRoute, and whether they are retained."""
        self._merged: tuple[DesiredRoute, ...] = ()

    async def merge(self, entries: tuple[SliceEntry, ...], gateway: IpAddress | None) -> tuple[DesiredRoute, ...]:
        if gateway != self._gateway:
            self._gateway, self._entries = gateway, ()
            self._known_routes.clear()
        if not _are_same(entries, self._entries):
            size = sum(len(entry.subnets) for entry in entries)
            merged = await offload(size, self._merge, entries, gateway)
            self._entries, self._merged = entries, merged
        return self._merged

    def _merge(self, entries: tuple[SliceEntry, ...], gateway: IpAddress | None) -> tuple[DesiredRoute, ...]:
        known, self._known_routes = self._known_routes, {}

        def find_routes(entry: SliceEntry, gateway: IpAddress | None) -> Iterable[DesiredRoute]:
            key = (entry.name, entry.retained)
            last = known.get(key)
            if last is None or last[0] is not entry:
                last = (entry, tuple(entry_routes(entry, gateway)))
            self._known_routes[key] = last
            return last[1]

        merged = merge_routes(entries, gateway, find_routes)
        return self._merged if merged == self._merged else merged


def _are_same(some: tuple[SliceEntry, ...], others: tuple[SliceEntry, ...]) -> bool:
    """Compare by identity, because slices share entries that have not changed."""
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
