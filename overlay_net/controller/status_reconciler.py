"""Reconciles the status of StaticRoutes: those that a change concerns, in batches, as often as writes are cheap.

A status is written only if it has changed.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.controller.route_status_writer import RouteStatusWriter
from overlay_net.controller.status_feed import StatusFeed
from overlay_net.controller.takeover_proofs import TakeoverProofs
from overlay_net.controller.write_pace import Settling, WritePace
from overlay_net.domain.routes.protected_subnets import refusal
from overlay_net.domain.routes.status import DEFAULT_LIMIT, route_status
from overlay_net.domain.routes.status_changes import Priority, StatusChanges
from overlay_net.model.errors import NotFound, OverlayNetError
from overlay_net.model.names import FINALIZER
from overlay_net.model.static_route import digest_status
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.turns import in_turns
from overlay_net.runtime.worker import Requeue

ROUTES: Final = "routes"
"""The only key of this reconciler: it covers every StaticRoute."""

BATCH: Final = 64
"""Maximum number of StaticRoutes in one batch, so that one with a failure does not wait for thousands of others."""

PARALLEL_WRITES: Final = 8

MAX_FAILURE_DELAY: Final = 5.0
"""Maximum number of seconds for which a failure, its end, or a new or edited StaticRoute waits."""

MAX_GRADUAL_DELAY: Final = 30.0
"""Maximum number of seconds for which a status waits until no more nodes join or leave."""

METRICS_DELAY: Final = 1.0
"""Number of seconds after which a change is in the metrics that concerns no StaticRoute."""


class StatusReconciler:
    """``schedule`` is called with the number of seconds after which ``reconcile`` is due.

    ``staged_changed`` is called with each StaticRoute with a staged rollout that a change concerns. ``limit`` is the
    maximum number of nodes in a status. ``max_delay`` is how long what is urgent waits at most, in seconds, and for how
    long no node must have joined or left before it is counted.
    """

    def __init__(
        self,
        api: KubeApi,
        caches: Caches,
        metrics: ControllerMetrics,
        events: EventRecorder,
        schedule: Callable[[float], None],
        staged_changed: Callable[[str], None],
        pace: WritePace,
        *,
        limit: int = DEFAULT_LIMIT,
        max_delay: float = MAX_FAILURE_DELAY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caches = caches
        self._metrics = metrics
        self._schedule = schedule
        self._staged_changed = staged_changed
        self._pace = pace
        self._limit = limit
        self._max_delay = min(max_delay, MAX_FAILURE_DELAY)
        self._clock = clock
        self._urgent_since: float | None = None
        self._joining = Settling(self._max_delay, MAX_GRADUAL_DELAY, clock)
        self._writer = RouteStatusWriter(api, events)
        self._proofs = TakeoverProofs(caches)
        self.feed = StatusFeed(caches, self._changed, self._writer.is_written)

    def _changed(self) -> None:
        """Note a change; it may concern no StaticRoute."""
        index = self.feed.index
        for name in index.changes.take_latest() & index.lookup.staged:
            self._staged_changed(name)
        if index.changes.has(Priority.URGENT) and self._urgent_since is None:
            self._urgent_since = self._clock()
        if index.changes.take_gradual():
            self._joining.record()
        if index.changes.has(Priority.URGENT) or index.changes.has(Priority.USUAL):
            self._pace.collect()
        self._schedule(self._delay() if index.changes else METRICS_DELAY)

    def _delay(self) -> float:
        """Return the number of seconds until the next batch is due."""
        changes, pace = self.feed.index.changes, self._pace.delay()
        if self._urgent_since is not None:
            return min(pace, max(0.0, self._urgent_since + self._max_delay - self._clock()))
        return pace if changes.has(Priority.USUAL) else max(pace, self._joining.delay())

    async def reconcile(self, _: str) -> Requeue | None:
        """Update the next StaticRoutes whose status may be different. Raises the first error after all of them."""
        if not self._caches.synced:
            return Requeue(1)
        await self.feed.fill()
        self._set_metrics()
        changes = self.feed.index.changes
        if changes and not self._delay():
            await self._update_all(self._take(changes))
        return Requeue(self._delay()) if changes else None

    def _take(self, changes: StatusChanges) -> Sequence[str]:
        """Return the StaticRoutes of the next batch, which is due."""
        if not self._joining.delay():
            changes.end_wait()
        if not changes.has(Priority.GRADUAL):
            self._joining.end()
        due = [Priority.URGENT] if self._pace.delay() else [Priority.URGENT, Priority.USUAL]
        names = changes.take(BATCH, due)
        if not changes.has(Priority.URGENT):
            self._urgent_since = None
        return names

    async def _update_all(self, names: Iterable[str]) -> None:
        steps = {}
        async for name in in_turns(names):
            step = self._find_step(name)
            if step is not None:
                steps[name] = step
        began = self._clock()
        errors = await _run_all(list(steps.values()))
        self._pace.record(self._clock() - began)
        failed = {name: error for name, error in zip(steps, errors, strict=True) if error is not None}
        for name in failed:
            self._writer.forget(name)
        self.feed.index.changes.mark(failed)
        for error in failed.values():
            raise error

    def _find_step(self, name: str) -> Coroutine[Any, Any, None] | None:
        """Return what is to be written to a StaticRoute, or None."""
        route = self._caches.routes.get(name)
        if route is None:
            self._writer.forget(name)
            return None
        if route.deleting:
            # It stays while nodes lack the proof that their routes may be removed from the kernel.
            releases = FINALIZER in route.finalizers and not self._proofs.is_needed(route)
            return self._writer.release(route) if releases else None
        present = self._writer.present(route)
        status = route_status(
            self.feed.index,
            route,
            datetime.now(UTC),
            refusal(route, self._caches.protection),
            self._proofs.unhanded(route),
            present=present.conditions,
            limit=self._limit,
        )
        return None if digest_status(status) == present.digest else self._writer.write(route, status)

    def _set_metrics(self) -> None:
        nodes = self.feed.nodes
        since = nodes.waiting_since.timestamp() if nodes.waiting_since is not None else 0.0
        self._metrics.set_cluster(nodes.nodes, nodes.routes, nodes.address_conflicts, since)
        self._metrics.silent_agents.set(nodes.silent_agents)
        self._metrics.set_static_routes(self.feed.static_routes.by_state)
        self._metrics.set_failed_reservations(nodes.failed_reservations)
        self._metrics.set_outdated_nodes(nodes.outdated_nodes)


async def _run_all(steps: Sequence[Coroutine[Any, Any, None]]) -> list[OverlayNetError | None]:
    """Run every step, PARALLEL_WRITES at a time; a failed step does not stop the others. Returns their errors."""
    slots = asyncio.Semaphore(PARALLEL_WRITES)

    async def guarded(step: Coroutine[Any, Any, None]) -> OverlayNetError | None:
        async with slots:
            try:
                await step
            except NotFound:
                return None
            except OverlayNetError as error:
                return error
        return None

    return await asyncio.gather(*(guarded(step) for step in steps))
