"""The agent mode: one watched object, one kernel, one key in the queue."""

import asyncio
import logging
import random

from overlay_net.adapters.kube import KubeApi, KubeSource, connect_agent
from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.agent.reconciler import NodeAgent, Publish
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import NotFound
from overlay_net.model.kernel import DesiredLink, Marks
from overlay_net.model.names import AGENT_FIELD_MANAGER, LINK_ALIAS, NODE_OVERLAY_IPS
from overlay_net.model.overlay import NodeOverlay, Report
from overlay_net.ops.http import serve
from overlay_net.ops.metrics import Metrics
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from overlay_net.settings import AgentSettings

log = logging.getLogger(__name__)

SETTLE = 0.005
"""Seconds that one kernel event waits for its companions; a link that goes down announces itself several times."""


async def run(settings: AgentSettings) -> None:
    """Run until cancelled, and leave the kernel as it is then. Raises ConfigurationError."""
    metrics = Metrics("agent")
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    queue = WorkQueue()
    name = settings.node_name
    marks = Marks(settings.route_protocol, LINK_ALIAS)

    def unready() -> str:
        return "" if store.synced else f"waiting for the first look at NodeOverlayIp {name}"

    async with (
        serve(settings.http.bind, metrics.registry, unready),
        connect_agent(str(settings.kubeconfig) if settings.kubeconfig else None) as connection,
        Kernel(marks, (settings.link, settings.interface), settings.proc_sys_net) as kernel,
    ):
        api = KubeApi(connection, observer=metrics)
        agent = NodeAgent(
            kernel=kernel,
            store=store,
            publish=publisher(api),
            link=DesiredLink(settings.link, settings.interface),
            marks=marks,
            metrics=metrics,
            resync=lambda: settings.resync_interval.total_seconds() * random.uniform(0.9, 1.1),
        )
        store.subscribe(lambda key, _, __: queue.add(key))
        reflector = Reflector(KubeSource(api, NODE_OVERLAY_IPS, field_selector=f"metadata.name={name}"), store)
        monitor = Monitor(settings.route_protocol, lambda: queue.add_after(name, SETTLE))
        log.info("agent starts", extra={"node": name, "server": connection.server})
        async with asyncio.TaskGroup() as group:
            group.create_task(reflector.run())
            await store.wait_synced()
            metrics.synced.set(1)
            log.info("synced", extra={"node": name})
            group.create_task(monitor.run())
            queue.add(name)
            group.create_task(run_workers("agent", queue, agent.reconcile, workers=1, observer=metrics))


def publisher(api: KubeApi) -> Publish:
    """Writes a report as the agent's part of the object's status."""

    async def publish(overlay: NodeOverlay, report: Report) -> None:
        body: JsonObject = {
            "apiVersion": NODE_OVERLAY_IPS.api_version,
            "kind": NODE_OVERLAY_IPS.kind,
            "metadata": {"name": overlay.name, "uid": overlay.uid},
            "status": report.to_json(),
        }
        try:
            await api.apply(
                NODE_OVERLAY_IPS, overlay.name, body, field_manager=AGENT_FIELD_MANAGER, subresource="status"
            )
        except NotFound:
            # The object went away; the watch says so too.
            return
        log.info("reported", extra={"node": overlay.name, "address": report.configured, "failed": report.routes_failed})

    return publish
