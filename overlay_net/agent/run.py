"""Wires the agent: one watched object, one kernel, one key in the queue."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Final

from overlay_net.adapters.checkpoint_file import CheckpointFile, current_moment, read_boot_id
from overlay_net.adapters.kube import KubeApi, KubeSource, connect_agent
from overlay_net.adapters.namespace_lock import NamespaceLock
from overlay_net.adapters.netlink import Conntrack, Kernel, Monitor, NeighbourMonitor
from overlay_net.agent.address_guard import AddressGuard
from overlay_net.agent.checkpoint import ConfirmingSource, NodeCheckpoint
from overlay_net.agent.checkpoint_writer import CheckpointWriter, NoCheckpointWriter
from overlay_net.agent.gateway_probe import gateway_probe
from overlay_net.agent.gateway_prober import GatewayProber
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.agent.heartbeat import Heartbeat
from overlay_net.agent.neighbours import Neighbours
from overlay_net.agent.own_object import OwnObjectSource, watch_versions
from overlay_net.agent.reconciler import NodeAgent
from overlay_net.agent.repairs import Repairs
from overlay_net.agent.reporter import Reporter
from overlay_net.agent.route_probes import RouteProbes
from overlay_net.agent.route_sets import RouteResolver
from overlay_net.agent.shadow_watch import ShadowWatch
from overlay_net.agent.slice_follower import SliceFollower
from overlay_net.agent.standby import Standby
from overlay_net.agent.status_writer import StatusWriter
from overlay_net.agent.sysctl_watch import watch_sysctls
from overlay_net.agent.translation_watch import TranslationWatch
from overlay_net.model.names import OVERLAY_ROUTE_SLICES
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.overlay_json import decode_overlays
from overlay_net.ops.agent_metrics import AgentMetrics
from overlay_net.ops.http import PatientServer
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store
from overlay_net.runtime.watchdog import watch_event_loop
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from overlay_net.settings.agent_config import AgentConfig

log = logging.getLogger(__name__)

API_TIMEOUT: Final = 5.0
"""Seconds without an answer after which the API server counts as unreachable and the checkpoint is used."""

SLICE_PAGE: Final = 20
"""Number of OverlayRouteSlices in a page of a list: about half a megabyte, which need not be in memory all at once."""


async def run(config: AgentConfig) -> None:
    """Run until cancelled, and leave the kernel unchanged on exit. Raises ConfigurationError."""
    name = config.node_name
    metrics = AgentMetrics()
    store: Store[NodeOverlay] = Store(NodeOverlay.parse, NodeOverlay.parse)
    queue = WorkQueue()
    metrics.watch_queue("agent", queue)
    wake = partial(queue.add, name)
    clock = asyncio.get_running_loop().time
    repairs = Repairs(partial(queue.add_after, name), clock)
    monitor = Monitor(config.mark.protocol, repairs.schedule, repairs.schedule_for_foreign_route)
    writer = checkpoint_writer(config, wake)
    checkpoint = NodeCheckpoint(writer, name, config.checkpoint_max_age, current_moment, unreachable=wake)
    lock = NamespaceLock()
    standby = Standby(lock, clock)
    unready = partial(missing, store, name, metrics, standby)
    server = PatientServer(config.bind, metrics.registry, unready, wake)
    with closing(lock), closing(Neighbours(wake)) as neighbours:
        async with (
            GatewayProber(gateway_probe(neighbours.resolve), wake) as prober,
            RouteProbes(wake, checkpoint.last_applied) as route_probes,
            connect_agent(config.kubeconfig) as connection,
            Kernel(config.mark, config.proc_sys_net, opened=monitor.ignore) as kernel,
            Conntrack(config.proc_sys_net) as conntrack,
        ):
            api = KubeApi(connection, observer=metrics, decode=decode_overlays)
            shadows = ShadowWatch(kernel, config.mark, wake, clock)
            monitor.watch_routing(shadows.kernel_changed)
            translations = TranslationWatch(conntrack, kernel)
            heartbeat = Heartbeat(
                api,
                config.lease_namespace,
                name,
                partial(store.get, name),
                # The upper end of the jitter.
                config.resync_interval.total_seconds() * 1.1,
                clock,
                wake,
            )

            def reported() -> None:
                metrics.record_sync()
                heartbeat.reconciled()

            status_writer = StatusWriter(api, store)
            reporter = Reporter(status_writer.write, reported, may_write=checkpoint.wait_settled)
            store.subscribe(lambda _, old, new: None if reporter.is_shown(old, new) else wake())
            source = OwnObjectSource(watch_versions(api, name), api, name, store, status_writer.wait_answer)
            slices = SliceFollower(partial(slice_source, api), wake)
            route_sets = RouteResolver(slices, checkpoint.last_applied)
            agent = NodeAgent(
                kernel,
                store,
                reporter,
                config.link,
                config.mark,
                metrics,
                resync=partial(jittered, config.resync_interval),
                guard=AddressGuard(
                    neighbours,
                    config.mark,
                    clock,
                    detect=config.duplicate_detection,
                    announce_every=config.announce_interval.total_seconds(),
                ),
                gateways=GatewayWatch(prober),
                shadows=shadows,
                translations=translations,
                route_probes=route_probes,
                checkpoint=checkpoint,
                route_sets=route_sets,
                repairs=repairs,
                follow_routes=monitor.follow,
                metrics_problem=lambda: server.problem,
                boot_id=read_boot_id(config.boot_id_file),
                heartbeat=heartbeat,
            )
            log.info("agent started", extra={"node": name, "server": connection.server})
            async with asyncio.TaskGroup() as group:
                group.create_task(watch_event_loop())
                group.create_task(server.run())
                await standby.wait()
                server.retry()
                group.create_task(Reflector(ConfirmingSource(source, checkpoint), store).run())
                group.create_task(slices.run())
                group.create_task(monitor.run())
                group.create_task(NeighbourMonitor(prober.probe_now).run())
                group.create_task(shadows.run())
                group.create_task(translations.run())
                group.create_task(watch_sysctls(kernel.sysctls_changed, repairs.schedule))
                group.create_task(writer.run())
                group.create_task(reporter.run())
                group.create_task(run_workers("agent", queue, agent.reconcile, workers=1, observer=metrics))
                timeout = asyncio.get_running_loop().call_later(API_TIMEOUT, checkpoint.api_failed)
                await store.wait_synced()
                timeout.cancel()
                checkpoint.api_synced()
                metrics.synced.set(1)
                log.info("synced", extra={"node": name})
                # The watch sends no event for an object that does not exist.
                wake()
                group.create_task(checkpoint.keep_confirming(lambda: route_sets.resolved(store.get(name))))
                group.create_task(heartbeat.run())


def slice_source(api: KubeApi, selector: str | None) -> KubeSource:
    return KubeSource(api, OVERLAY_ROUTE_SLICES, label_selector=selector, page=SLICE_PAGE)


def checkpoint_writer(config: AgentConfig, changed: Callable[[], None]) -> CheckpointWriter | NoCheckpointWriter:
    if config.state_dir is None:
        return NoCheckpointWriter()
    return CheckpointWriter(CheckpointFile(config.state_dir, config.node_name), current_moment(), changed)


def missing(store: Store[NodeOverlay], name: str, metrics: AgentMetrics, standby: Standby) -> str:
    """Return why the agent is not ready, or an empty string."""
    if standby.waiting:
        return standby.problem
    return metrics.contact_problem() if store.synced else f"NodeOverlayIp {name} has not been read yet"


def jittered(interval: timedelta) -> float:
    """Return the interval in seconds with jitter, so that nodes that started together do not stay in step."""
    return interval.total_seconds() * random.uniform(0.9, 1.1)
