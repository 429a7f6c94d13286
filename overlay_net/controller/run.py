"""Wires the reconcilers of the controller."""

import asyncio
import logging

from overlay_net.controller.agent_leases import AgentLeases
from overlay_net.controller.audit import Auditor
from overlay_net.controller.event_routes import SUBNET_MAP
from overlay_net.controller.leader import Leader, become_leader
from overlay_net.controller.node_workers import make_node_workers
from overlay_net.controller.pool_reconciler import PoolReconciler
from overlay_net.controller.protected_sources import make_protected_subnets
from overlay_net.controller.report_events import ReportEvents
from overlay_net.controller.resync import resync
from overlay_net.controller.subnet_map import SubnetMapReconciler
from overlay_net.model.node_actions import LifecyclePolicy
from overlay_net.settings.controller import ControllerSettings

log = logging.getLogger(__name__)

POOL_WORKERS = 4


async def run(settings: ControllerSettings) -> None:
    """Run until cancelled. Raises ConfigurationError."""
    async with become_leader(settings) as leader:
        await _lead(leader)


async def _lead(leader: Leader) -> None:
    """Run all reconcilers until cancelled."""
    settings, api, caches, queues, metrics = (
        leader.settings,
        leader.api,
        leader.caches,
        leader.queues,
        leader.metrics,
    )
    policy = LifecyclePolicy(
        settings.release_after, settings.fence_after, settings.overlay_addresses, settings.startup_taint
    )
    nodes = await make_node_workers(leader, policy)
    ipam, phpipam = nodes.ipam, settings.phpipam
    metrics.watch_ipam("cluster", up=lambda: ipam.answers("cluster"), refused=lambda: False)
    refresh = phpipam.refresh_interval if phpipam else settings.audit_interval
    pools = PoolReconciler(api, ipam, caches, refresh, metrics, nodes.events)
    auditor = Auditor(
        api,
        ipam,
        caches,
        settings.audit_grace,
        nodes.checks.request,
        nodes.events,
        metrics,
        pools_changed=queues.ipam_changed,
    )
    leases = AgentLeases(api, caches, settings.agent_lease_namespace, settings.agent_stale_after, queues.nodes.add)
    protected = make_protected_subnets(leader)
    # No node is reconciled before it is known what is protected.
    await protected.read()
    await caches.protected.check_all()
    await nodes.slices.prepare()
    log.info("controller started", extra={"cluster": nodes.cluster})
    async with asyncio.TaskGroup() as group:
        group.create_task(protected.follow())
        if phpipam is not None and phpipam.subnet_map is not None:
            subnet_map = SubnetMapReconciler(api, caches, phpipam.subnet_map)
            queues.subnet_map.add(SUBNET_MAP)
            leader.start(group, "subnet-map", subnet_map.reconcile, 1)
        ReportEvents(caches.overlays, caches.slice_reports.find_gateways, nodes.events)
        nodes.start(group)
        leader.start(group, "pool", pools.reconcile, POOL_WORKERS)
        group.create_task(auditor.run(settings.audit_interval))
        group.create_task(leases.run())
        group.create_task(resync(caches, queues, settings.resync_interval, nodes.status.feed.mark_all))
