"""The agent mode: one watched object, one kernel, one key in the queue."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from overlay_net.adapters.checkpoint_file import CheckpointFile, moment
from overlay_net.adapters.kube import KubeApi, KubeSource, connect_agent
from overlay_net.adapters.netlink import Kernel, Monitor, NeighbourMonitor
from overlay_net.agent.address_guard import Surroundings
from overlay_net.agent.checkpoint import Listened, Recall
from overlay_net.agent.gateway_prober import GatewayProber, asking
from overlay_net.agent.neighbours import Neighbours
from overlay_net.agent.reconciler import NodeAgent, Publish
from overlay_net.agent.route_probes import RouteProbes
from overlay_net.agent.sysctl_watch import watch_sysctls
from overlay_net.domain.kernel.checkpoint import Checkpoint, Unusable
from overlay_net.domain.kernel.desired import LinkConfig, stable_mac
from overlay_net.model.errors import NotFound
from overlay_net.model.kernel import OwnershipMark
from overlay_net.model.names import AGENT_FIELD_MANAGER, LINK_ALIAS, NODE_OVERLAY_IPS
from overlay_net.model.overlay import NodeOverlay, Report
from overlay_net.model.route_probe import RouteProbe
from overlay_net.model.route_spec import shape
from overlay_net.ops.http import serve
from overlay_net.ops.metrics import AgentMetrics
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from overlay_net.settings import AgentSettings

log = logging.getLogger(__name__)

SETTLE = 0.001
"""Seconds that one kernel event waits for its companions; a link that goes down announces itself several times."""

PATIENCE = 5.0
"""Seconds after which an API server that says nothing counts as out of reach, so that a kept state is used."""

CONFIRM_EVERY = 15.0
"""Seconds between two questions whether there is a newer confirmation to be kept."""


async def run(settings: AgentSettings) -> None:
    """Run until cancelled, and leave the kernel as it is then. Raises ConfigurationError."""
    metrics = AgentMetrics()
    store: Store[NodeOverlay] = Store(NodeOverlay.parse, NodeOverlay.parse)
    queue = WorkQueue()
    name = settings.node_name
    mark = OwnershipMark(settings.route_protocol, LINK_ALIAS)
    file = CheckpointFile(settings.state_dir, name) if settings.state_dir is not None else None
    off = Unusable("Off", "no state_dir is set")
    recall = Recall(file.recall if file is not None else lambda: off, settings.checkpoint_max_age, moment)

    def unready() -> str:
        return "" if store.synced else f"waiting for the first look at NodeOverlayIp {name}"

    def failed() -> None:
        if not store.synced:
            recall.begin()
            queue.add(name)

    def wake() -> None:
        queue.add(name)

    metrics.watch_queue("agent", queue)

    def repair() -> None:
        queue.add_after(name, SETTLE + agent.pause)

    neighbours = Neighbours(wake)
    monitor = Monitor(settings.route_protocol, repair)
    async with (
        released(neighbours),
        GatewayProber(asking(neighbours.resolve), wake) as prober,
        RouteProbes(wake, lambda: kept_by(file)) as route_probes,
        serve(settings.http.bind, metrics.registry, unready),
        connect_agent(str(settings.kubeconfig) if settings.kubeconfig else None) as connection,
        Kernel(mark, settings.proc_sys_net, opened=monitor.ignore) as kernel,
    ):
        api = KubeApi(connection, observer=metrics, shape=shape)
        source = Listened(KubeSource(api, NODE_OVERLAY_IPS, field_selector=f"metadata.name={name}"), moment, failed)
        memory = ConfirmedMemory(file, source, recall) if file is not None else None
        agent = NodeAgent(
            kernel=kernel,
            store=store,
            publish=publisher(api),
            rules=link_config(settings),
            mark=mark,
            metrics=metrics,
            resync=lambda: settings.resync_interval.total_seconds() * random.uniform(0.9, 1.1),
            surroundings=Surroundings(
                neighbours,
                prober,
                mark,
                asyncio.get_running_loop().time,
                detect=settings.duplicate_detection,
                announce_every=settings.announce_interval.total_seconds(),
            ),
            memory=memory,
            recall=recall.overlay,
            route_probes=route_probes,
        )
        store.subscribe(lambda key, _, __: queue.add(key))
        reflector = Reflector(source, store)

        log.info("agent starts", extra={"node": name, "server": connection.server})
        async with asyncio.TaskGroup() as group:
            group.create_task(reflector.run())
            group.create_task(monitor.run())
            group.create_task(NeighbourMonitor(prober.hurry).run())
            group.create_task(watch_sysctls(kernel.sysctls_changed, repair))
            group.create_task(run_workers("agent", queue, agent.reconcile, workers=1, observer=metrics))
            late = asyncio.get_running_loop().call_later(PATIENCE, failed)
            await store.wait_synced()
            late.cancel()
            recall.end()
            metrics.synced.set(1)
            log.info("synced", extra={"node": name})
            # An object that is not there announces nothing.
            queue.add(name)
            if memory is not None:
                group.create_task(memory.run(store, name))


@asynccontextmanager
async def released(neighbours: Neighbours) -> AsyncIterator[None]:
    try:
        yield
    finally:
        neighbours.close()


def link_config(settings: AgentSettings) -> LinkConfig:
    return LinkConfig(
        parent=settings.interface_selector,
        name=settings.link,
        mode=settings.link_mode,
        macvlan_mode=settings.macvlan_mode,
        mac=stable_mac(settings.node_name, settings.link),
        fallback=settings.fallback_subnet,
        source=settings.source,
    )


def kept_by(file: CheckpointFile | None) -> NodeOverlay | None:
    """What an earlier run acted on last, however long ago."""
    kept = file.recall() if file is not None else None
    return kept.overlay if isinstance(kept, Checkpoint) else None


class ConfirmedMemory:
    """The state file, with the time of the last word of the API server."""

    def __init__(self, file: CheckpointFile, source: Listened, recall: Recall) -> None:
        self._file = file
        self._source = source
        self._recall = recall

    async def remember(self, overlay: NodeOverlay, route_probes: tuple[RouteProbe, ...]) -> None:
        # Whoever has an object from a list or a watch has its confirmation; one that was recalled has its old one.
        confirmed = self._source.confirmed or self._recall.confirmed
        if confirmed is not None:
            await self._file.remember(overlay, confirmed, route_probes)

    async def forget(self) -> str:
        return await self._file.forget()

    async def run(self, store: Store[NodeOverlay], name: str) -> None:
        """Write down now and then that the API server still says the same."""
        while True:
            await asyncio.sleep(CONFIRM_EVERY)
            if self._source.confirmed is not None:
                await self._file.confirm(store.get(name), self._source.confirmed)


def publisher(api: KubeApi) -> Publish:
    """Writes a report as the agent's part of the object's status."""

    async def publish(overlay: NodeOverlay, report: Report) -> None:
        body = NODE_OVERLAY_IPS.manifest(overlay.name, uid=overlay.uid, status=report.to_json())
        try:
            await api.apply(
                NODE_OVERLAY_IPS, overlay.name, body, field_manager=AGENT_FIELD_MANAGER, subresource="status"
            )
        except NotFound:
            # The object went away; the watch says so too.
            return
        log.info("reported", extra={"node": overlay.name, "address": report.configured, "failed": report.routes_failed})

    return publish
