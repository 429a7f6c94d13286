"""Reconciles the status of StaticRoutes, aggregated in batches from the reports of all nodes.

A status is written only if it has changed. The same pass over all nodes admits the next nodes of staged rollouts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from overlay_net.adapters.kube import KubeApi, apply_owned
from overlay_net.controller.caches import Caches
from overlay_net.domain.routes.node_status import rollout_progress
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.protected_subnets import Decided, RouteCheck
from overlay_net.domain.routes.rollout import admit
from overlay_net.domain.routes.status import route_status
from overlay_net.domain.routes.takeover import find_unhanded
from overlay_net.domain.status.cluster_counts import ClusterCounts, count_cluster
from overlay_net.domain.status.reservation_counts import count_failed_reservations, count_outdated_nodes
from overlay_net.domain.status.static_route_counts import PROGRESSING, count_static_routes
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import READY, Condition, find_condition, parse_conditions
from overlay_net.model.errors import NotFound, OverlayNetError
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, FINALIZER, STATIC_ROUTES
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import Revision
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.static_route import ROUTE_STATUS_FIELDS, StaticRoute
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.offload import offload
from overlay_net.runtime.turns import in_turns
from overlay_net.runtime.worker import Requeue

ROUTES = "routes"
"""The only key of this reconciler: one batch covers every StaticRoute."""

PARALLEL_WRITES = 8


class StatusReconciler:
    """``wake`` is called with the name of each node that a rollout admits."""

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
        """Update the status of every StaticRoute. Raises the first error after all of them were processed."""
        if not self._caches.synced:
            return Requeue(1)
        await self._update_all()
        return None

    async def _update_all(self) -> None:
        caches, routes = self._caches, tuple(self._caches.routes.values())
        observed = _Observed(
            tuple(caches.agent_nodes()),
            tuple(caches.overlays.values()),
            {name: dict(found) for name, found in caches.slice_index.by_set.items()},
            routes,
            Decided({route.name: caches.protection.refusal(route) async for route in in_turns(routes)}),
            caches.admitted,
            datetime.now(UTC),
        )
        # With thousands of nodes this takes seconds.
        batch = await offload(len(observed.nodes) * (1 + len(observed.routes)), _compute, observed)
        self._set_metrics(batch)
        caches.admitted = batch.admitted
        for name in batch.newly_admitted(observed.admitted):
            self._wake(name)
        await _run_all(self._update(route, status) for route, status in batch.changed)

    def _set_metrics(self, batch: "_Batch") -> None:
        counts = batch.counts
        since = counts.waiting_since.timestamp() if counts.waiting_since is not None else 0.0
        self._metrics.set_cluster(counts.nodes, counts.routes, counts.address_conflicts, since)
        self._metrics.silent_agents.set(counts.silent_agents)
        self._metrics.set_static_routes(batch.static_routes)
        self._metrics.set_failed_reservations(batch.failed_reservations)
        self._metrics.set_outdated_nodes(batch.outdated_nodes)

    async def _update(self, route: StaticRoute, status: JsonObject) -> None:
        if route.deleting:
            if FINALIZER in route.finalizers:
                # Set by the earlier operator. Nodes remove the route once their NodeOverlayIp lacks it.
                others = [finalizer for finalizer in route.finalizers if finalizer != FINALIZER]
                change = {"metadata": {"resourceVersion": route.resource_version, "finalizers": others}}
                await self._api.merge_patch(STATIC_ROUTES, route.name, change)
            return
        body = STATIC_ROUTES.manifest(route.name, uid=route.uid, status=status)
        await apply_owned(
            self._api,
            STATIC_ROUTES,
            body,
            field_manager=CONTROLLER_FIELD_MANAGER,
            owned=ROUTE_STATUS_FIELDS,
            subresource="status",
        )
        self._announce(route, find_condition(parse_conditions(status), READY))

    def _announce(self, route: StaticRoute, ready: Condition | None) -> None:
        before = find_condition(route.conditions, READY)
        if ready is None or ready.status is not False or ready.reason in PROGRESSING:
            return
        if before is None or _identity(before) != _identity(ready):
            self._events.emit(STATIC_ROUTES, route.name, route.uid, ready.reason, ready.message, warning=True)


@dataclass(frozen=True, slots=True)
class _Observed:
    """A snapshot of the caches, so that another thread can read it."""

    nodes: Sequence[Node]
    overlays: Sequence[NodeOverlay]
    slices: Mapping[str, Mapping[int, RouteSlice]]
    routes: Sequence[StaticRoute]
    protection: RouteCheck
    admitted: Mapping[Revision, frozenset[str]]
    now: datetime


@dataclass(frozen=True, slots=True)
class _Batch:
    counts: ClusterCounts
    admitted: Mapping[Revision, frozenset[str]]
    """Nodes that may get a revision of a StaticRoute with a staged rollout."""
    changed: Sequence[tuple[StaticRoute, JsonObject]]
    """The StaticRoutes with another status than before, and those that are being deleted."""
    static_routes: Mapping[str, int]
    """Number of StaticRoutes by state."""
    failed_reservations: Mapping[str, int]
    """Number of nodes by reason."""
    outdated_nodes: Mapping[str, int]
    """Number of nodes by reason."""

    def newly_admitted(self, before: Mapping[Revision, frozenset[str]]) -> set[str]:
        return {name for key, names in self.admitted.items() for name in names - before.get(key, frozenset())}


def _compute(observed: _Observed) -> _Batch:
    overlays = {overlay.name: overlay for overlay in observed.overlays}
    tables = [
        NodeTable.index(node, overlay, observed.slices)
        for node in observed.nodes
        if (overlay := overlays.get(node.name)) is not None
    ]
    changed, conditions = [], []
    for route, status in _statuses(observed, overlays, tables):
        if not route.deleting:
            conditions.append(parse_conditions(status))
        if route.deleting or status != route.status:
            changed.append((route, status))
    return _Batch(
        count_cluster(observed.nodes, observed.overlays),
        _admit(observed, tables),
        changed,
        count_static_routes(conditions),
        count_failed_reservations(observed.overlays),
        count_outdated_nodes(observed.overlays),
    )


def _statuses(
    observed: _Observed, overlays: Mapping[str, NodeOverlay], tables: Sequence[NodeTable]
) -> Iterator[tuple[StaticRoute, JsonObject]]:
    """Yield the status of each StaticRoute.

    Those that are being deleted come later while nodes lack the proof that their routes may be removed from the kernel.
    """
    adoptable = {overlay.name: frozenset(overlay.adoptable) for overlay in overlays.values() if overlay.adoptable}
    for route in observed.routes:
        unhanded = find_unhanded(route, (node.name for node in observed.nodes), adoptable)
        if not (route.deleting and _has_object(unhanded, overlays)):
            yield route, route_status(route, tables, observed.now, observed.protection, unhanded)


def _has_object(nodes: Iterable[str], overlays: Mapping[str, NodeOverlay]) -> bool:
    """Return whether one of the nodes has an object that is not being deleted."""
    found = (overlays.get(name) for name in nodes)
    return any(overlay is not None and not overlay.deleting for overlay in found)


def _admit(observed: _Observed, tables: Sequence[NodeTable]) -> Mapping[Revision, frozenset[str]]:
    """Admit the next nodes of each staged rollout."""
    admitted = {}
    for route in observed.routes:
        if route.rollout is None or route.deleting:
            continue
        progress = rollout_progress(route, tables, observed.protection)
        limit = route.rollout.limit(len(progress))
        admitted[route.revision] = admit(progress, observed.admitted.get(route.revision, ()), limit)
    return admitted


def _identity(condition: Condition) -> tuple[str, int]:
    return condition.reason, condition.observed_generation


async def _run_all(steps: Iterable[Awaitable[None]]) -> None:
    """Run every step, PARALLEL_WRITES at a time; a failed step does not stop the others."""
    slots = asyncio.Semaphore(PARALLEL_WRITES)

    async def guarded(step: Awaitable[None]) -> OverlayNetError | None:
        async with slots:
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
