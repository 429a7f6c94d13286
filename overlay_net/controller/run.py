"""The controller mode: stores, queues and workers wired together, and which change wakes which key."""

import asyncio
import logging
import socket

from overlay_net.adapters.cluster_ipam import ClusterIpam
from overlay_net.adapters.kube import KubeApi, connect_controller
from overlay_net.controller.audit import Auditor
from overlay_net.controller.caches import Caches
from overlay_net.controller.node_reconciler import NodeReconciler
from overlay_net.controller.status_reconciler import POOLS, ROUTES, StatusReconciler
from overlay_net.model.cluster import LifeRules
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.ipam import AddressRecord
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, NAMESPACES
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import object_of, text_of
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute
from overlay_net.ops.events import EventRecorder
from overlay_net.ops.http import serve
from overlay_net.ops.metrics import Metrics
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from overlay_net.settings import ControllerSettings

log = logging.getLogger(__name__)


class Wiring:
    """Turns changes of stores into keys of queues; it decides nothing else."""

    def __init__(self, caches: Caches, nodes: WorkQueue, status: WorkQueue, batch: float) -> None:
        self._caches = caches
        self._nodes = nodes
        self._status = status
        self._batch = batch
        caches.nodes.subscribe(self._node)
        caches.overlays.subscribe(self._overlay)
        caches.routes.subscribe(self._route)
        caches.pools.subscribe(self._pool)
        caches.records.subscribe(self._record)

    def _node(self, name: str, old: Node | None, new: Node | None) -> None:
        # Heartbeats change a node all the time; only what a plan reads of it counts.
        if old != new:
            self._nodes.add(name)
            self._status.add_after(ROUTES, self._batch)

    def _overlay(self, name: str, _: NodeOverlay | None, __: NodeOverlay | None) -> None:
        self._nodes.add(name)
        self._status.add_after(ROUTES, self._batch)

    def _route(self, _: str, old: StaticRoute | None, new: StaticRoute | None) -> None:
        self._status.add_after(ROUTES, self._batch)
        if old is not None and new is not None and (old.generation, old.zone) == (new.generation, new.zone):
            return
        for node in self._caches.nodes.values():
            if any(route is not None and route.selects(node) for route in (old, new)):
                self._nodes.add(node.name)

    def _pool(self, _: str, old: Pool | None, new: Pool | None) -> None:
        if old is None or new is None or old.generation != new.generation:
            self._status.add_after(POOLS, self._batch)
            for name in self._caches.nodes.names():
                self._nodes.add(name)

    def _record(self, _: str, old: AddressRecord | None, new: AddressRecord | None) -> None:
        self._status.add_after(POOLS, self._batch)
        for record in (old, new):
            if record is not None:
                self._nodes.add(record.node)
        if new is not None:
            return
        for overlay in self._caches.overlays.values():
            reserved = overlay.assignment.reserved
            if reserved is not None and not reserved.status:
                self._nodes.add(overlay.name)


async def run(settings: ControllerSettings) -> None:
    """Run until cancelled. Raises ConfigurationError for what only a person can mend."""
    metrics = Metrics("controller")
    caches = Caches()
    nodes, status = WorkQueue(), WorkQueue()

    def unready() -> str:
        metrics.synced.set(caches.synced)
        return "" if caches.synced else "waiting for the first complete list of every kind"

    async with (
        serve(settings.http.bind, metrics.registry, unready),
        connect_controller(str(settings.kubeconfig) if settings.kubeconfig else None) as connection,
    ):
        api = KubeApi(connection, observer=metrics)
        cluster = settings.cluster_id or await cluster_uid(api)
        ipam = ClusterIpam(api, cluster, caches.known_addresses, caches.pools.get)
        events = EventRecorder(api, CONTROLLER_FIELD_MANAGER, socket.gethostname())
        rules = LifeRules(settings.release_after, settings.fence_after)
        node_reconciler = NodeReconciler(api, ipam, caches, cluster, rules, events)
        status_reconciler = StatusReconciler(api, ipam, caches, metrics)
        auditor = Auditor(api, ipam, cluster, settings.audit_grace, metrics)
        Wiring(caches, nodes, status, settings.status_batch.total_seconds())
        log.info("controller starts", extra={"cluster": cluster, "server": connection.server})
        async with asyncio.TaskGroup() as group:
            for reflector in caches.reflectors(api):
                group.create_task(reflector.run())
            group.create_task(events.run())
            for store in caches.stores:
                await store.wait_synced()
            metrics.synced.set(1)
            log.info("synced", extra={"nodes": len(caches.nodes), "addresses": len(caches.records)})
            wake_all(caches, nodes)
            group.create_task(
                run_workers("node", nodes, node_reconciler.reconcile, workers=settings.workers, observer=metrics)
            )
            group.create_task(run_workers("status", status, status_reconciler.reconcile, workers=2, observer=metrics))
            group.create_task(auditor.run(settings.audit_interval))


def wake_all(caches: Caches, nodes: WorkQueue) -> None:
    """Every node, and every object or record whose node is gone: a restart must not wait for something to change."""
    for name in {*caches.nodes.names(), *caches.overlays.names()}:
        nodes.add(name)


async def cluster_uid(api: KubeApi) -> str:
    """The uid of kube-system: the usual identity of a cluster; waits until the API can tell it."""
    while True:
        try:
            return text_of(object_of(await api.get(NAMESPACES, "kube-system"), "metadata").get("uid"))
        except OverlayNetError as error:
            log.warning("waiting for the API server: %s", error)
            await asyncio.sleep(2)
