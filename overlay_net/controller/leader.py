"""Starts the controller up to leadership: connections, synced caches and the leases."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from overlay_net.adapters.kube import KubeApi, connect_controller
from overlay_net.adapters.phpipam import Client
from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import Queues
from overlay_net.controller.ipam_backends import open_phpipam
from overlay_net.controller.leader_election import make_leadership
from overlay_net.model.selectors import Selector
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.http import serve
from overlay_net.runtime.gc_tuning import ReplacedValues, exclude_existing
from overlay_net.runtime.loop_blocks import LoopBlocks
from overlay_net.runtime.worker import Reconcile, run_workers
from overlay_net.settings.controller import ControllerSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Leader:
    """The connections, caches and queues that the reconcilers of a leader share."""

    settings: ControllerSettings
    api: KubeApi
    server: str
    """The API server's URL."""
    phpipam: Client | None
    caches: Caches
    queues: Queues
    metrics: ControllerMetrics

    def start(self, group: asyncio.TaskGroup, name: str, reconcile: Reconcile, workers: int) -> asyncio.Task[None]:
        """Start the workers of the queue with this name."""
        queue = self.queues.by_name[name]
        return group.create_task(run_workers(name, queue, reconcile, workers=workers, observer=self.metrics))


@asynccontextmanager
async def become_leader(
    settings: ControllerSettings, is_complete: Callable[[], bool] = lambda: False
) -> AsyncIterator[Leader]:
    """Enter the context once every cache is synced and this process is the leader. Raises ConfigurationError.

    If ``is_complete`` at its end, this release has left the cluster, and another one may manage it at once.
    """
    metrics = ControllerMetrics()
    metrics.watch_loop(LoopBlocks())
    caches = Caches(Selector.parse_text(settings.node_selector))
    queues = Queues()
    for name, queue in queues.by_name.items():
        metrics.watch_queue(name, queue)

    def unready() -> str:
        # A standby is ready as well: it can take over at any time.
        metrics.synced.set(caches.synced)
        if not caches.synced:
            return "waiting for the caches to sync"
        return metrics.contact_problem() or leadership.unready()

    async with connect_controller(settings.kubeconfig) as connection:
        leadership = make_leadership(settings.leader_election, KubeApi(connection, observer=metrics), metrics)
        fence = leadership.remaining
        api = KubeApi(connection, observer=metrics, fence=fence)
        async with (
            serve(settings.http.bind, metrics.registry, unready),
            open_phpipam(settings.phpipam, queues, metrics, fence) as phpipam,
            asyncio.TaskGroup() as group,
        ):
            log.info("controller starting", extra={"server": connection.server})
            reflectors = caches.reflectors(api, settings.resync_interval)
            tasks = [group.create_task(reflector.run()) for reflector in reflectors]
            for store in caches.stores:
                await store.wait_synced()
            metrics.synced.set(1)
            # The Kubernetes client as well, which is imported when it connects.
            exclude_existing()
            replaced = ReplacedValues()
            for store in caches.stores:
                store.subscribe(replaced.changed)
            log.info("caches synced", extra={"nodes": len(caches.nodes), "addresses": len(caches.records)})
            async with leadership.hold(is_complete):
                yield Leader(settings, api, connection.server, phpipam, caches, queues, metrics)
            for task in tasks:
                task.cancel()
