"""The status of StaticRoutes: folded from the reports of all nodes, written in batches and only on change.

The same look at all nodes decides who is next in a staged roll-out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.domain.routes.rollout import admit
from overlay_net.domain.routes.status import NodeTable, rollout_progress, route_status
from overlay_net.domain.status.cluster_counts import count_cluster
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import PROGRAMMED, Condition, find, parse_conditions
from overlay_net.model.errors import NotFound, OverlayNetError
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, FINALIZER, STATIC_ROUTES
from overlay_net.model.static_route import StaticRoute
from overlay_net.ops.events import EventRecorder
from overlay_net.ops.metrics import ControllerMetrics
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

ROUTES = "routes"
"""The one key of this reconciler: a batch covers every StaticRoute."""

PARALLEL_WRITES = 8

TOLD_BY_EVENT = frozenset({"RolledBack", "ProbeFailed", "RolloutStopped"})
"""Reasons of Programmed=False that wait for a person."""


class StatusReconciler:
    """``wake`` is called with the name of each node whose turn has come."""

    def __init__(
        self,
        api: KubeApi,
        caches: Caches,
        metrics: ControllerMetrics,
        events: EventRecorder,
        wake: Callable[[str], None],
    ) -> None:
        self._api = api
        self._caches = caches
        self._metrics = metrics
        self._events = events
        self._wake = wake

    async def reconcile(self, _: str) -> Requeue | None:
        """Write the status of every StaticRoute that differs from what it must be.

        Raises the first error after every object had its turn.
        """
        if not self._caches.synced:
            return Requeue(1)
        await self._routes()
        return None

    async def _routes(self) -> None:
        overlays = self._caches.overlays
        tables = [
            NodeTable.index(node, overlay)
            for node in self._caches.nodes.values()
            if (overlay := overlays.get(node.name)) is not None
        ]
        counts = count_cluster(self._caches.nodes.values(), overlays.values())
        since = counts.waiting_since.timestamp() if counts.waiting_since is not None else 0.0
        self._metrics.set_cluster(counts.nodes, counts.routes, counts.duplicates, since)
        self._admit(tables)
        now, protection = datetime.now(UTC), self._caches.protection
        await _all(
            self._route(route, route_status(route, tables, now, protection)) for route in self._caches.routes.values()
        )

    def _admit(self, tables: Sequence[NodeTable]) -> None:
        """Let the next nodes have the generations that are rolled out in stages."""
        before, admitted = self._caches.admitted, {}
        for route in self._caches.routes.values():
            if route.rollout is None or route.deleting:
                continue
            progress = rollout_progress(route, tables, self._caches.protection)
            limit = route.rollout.limit(len(progress))
            admitted[route.revision] = admit(progress, before.get(route.revision, ()), limit)
        self._caches.admitted = admitted
        for name in {name for key, names in admitted.items() for name in names - before.get(key, frozenset())}:
            self._wake(name)

    async def _route(self, route: StaticRoute, status: JsonObject) -> None:
        if route.deleting:
            if FINALIZER in route.finalizers:
                # Left by the earlier operator. Nodes drop the route as soon as their own object lacks it.
                rest = [finalizer for finalizer in route.finalizers if finalizer != FINALIZER]
                change = {"metadata": {"resourceVersion": route.resource_version, "finalizers": rest}}
                await self._api.merge_patch(STATIC_ROUTES, route.name, change)
            return
        if status == route.status:
            return
        body = STATIC_ROUTES.manifest(route.name, uid=route.uid, status=status)
        await self._api.apply(
            STATIC_ROUTES, route.name, body, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status"
        )
        self._announce(route, find(parse_conditions(status), PROGRAMMED))

    def _announce(self, route: StaticRoute, programmed: Condition | None) -> None:
        before = find(route.conditions, PROGRAMMED)
        if programmed is None or programmed.reason not in TOLD_BY_EVENT:
            return
        told = (programmed.reason, programmed.observed_generation)
        if before is None or (before.reason, before.observed_generation) != told:
            name, uid = route.name, route.uid
            self._events.emit(STATIC_ROUTES, name, uid, programmed.reason, programmed.message, warning=True)


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    """Run every step, a few at a time; one object's failure does not keep the others from their turn."""
    turn = asyncio.Semaphore(PARALLEL_WRITES)

    async def guarded(step: Awaitable[None]) -> OverlayNetError | None:
        async with turn:
            try:
                await step
            except NotFound:
                return None
            except OverlayNetError as error:
                return error
        return None

    errors = await asyncio.gather(*(guarded(step) for step in steps))
    for error in errors:
        if error is not None:
            raise error
