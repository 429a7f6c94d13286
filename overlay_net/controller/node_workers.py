"""Wires the reconcilers of nodes, slices and StaticRoute status for a leader or a drain."""

import asyncio
import socket
from dataclasses import dataclass
from functools import partial

from overlay_net.controller.cluster_id import fetch_cluster_uid
from overlay_net.controller.event_routes import EventRoutes, enqueue_all
from overlay_net.controller.ipam_backends import make_backends
from overlay_net.controller.ipam_checks import IpamChecks
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.leader import Leader
from overlay_net.controller.node_reconciler import NodeReconciler
from overlay_net.controller.rollout_reconciler import RolloutReconciler
from overlay_net.controller.slice_reconciler import SliceReconciler
from overlay_net.controller.status_reconciler import ROUTES, StatusReconciler
from overlay_net.controller.write_pace import WritePace
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER
from overlay_net.model.node_actions import LifecyclePolicy
from overlay_net.ops.events import EventRecorder


@dataclass(frozen=True, slots=True)
class NodeWorkers:
    leader: Leader
    cluster: str
    """The cluster's identity in the IPAM."""
    ipam: IpamRouter
    events: EventRecorder
    checks: IpamChecks
    draining: bool
    node: NodeReconciler
    slices: SliceReconciler
    status: StatusReconciler
    rollouts: RolloutReconciler

    def start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Enqueue every node and start the workers in ``group``."""
        leader, queues = self.leader, self.leader.queues
        # From now on every change enqueues its keys; earlier changes are covered by enqueueing all keys.
        routes = EventRoutes(leader.caches, queues, leader.settings.status_batch.total_seconds())
        enqueue_all(leader.caches, queues)
        workers = leader.settings.workers
        # While draining, slices stay as they are until no NodeOverlayIp is left.
        slices = [] if self.draining else [leader.start(group, "slice", self.slices.reconcile, 1)]
        return [
            *slices,
            group.create_task(self.events.run()),
            leader.start(group, "node", self.node.reconcile, workers),
            leader.start(group, "address", self.node.reconcile_address, workers),
            leader.start(group, "status", self.status.reconcile, 1),
            leader.start(group, "rollout", self.rollouts.reconcile, 1),
            leader.start(group, "wake", routes.wake_nodes, 1),
        ]


async def make_node_workers(leader: Leader, policy: LifecyclePolicy) -> NodeWorkers:
    settings, api, caches, queues = leader.settings, leader.api, leader.caches, leader.queues
    cluster = settings.cluster_id or await fetch_cluster_uid(api)
    backends = make_backends(settings.phpipam, api, cluster, leader.phpipam, caches, queues.ipam_changed)
    ipam = IpamRouter(backends, leader.metrics, caches.released_records)
    events = EventRecorder(api, CONTROLLER_FIELD_MANAGER, socket.gethostname())
    checks = IpamChecks(caches, queues.addresses.add)
    node = NodeReconciler(api, ipam, caches, cluster, policy, events, checks)
    status = StatusReconciler(
        api,
        caches,
        leader.metrics,
        events,
        partial(queues.status.add_after, ROUTES),
        queues.rollouts.add,
        WritePace(),
        limit=settings.node_status_limit,
        max_delay=settings.status_batch.total_seconds(),
    )
    rollouts = RolloutReconciler(caches, status.feed, queues.nodes.add)
    slices = SliceReconciler(api, caches)
    return NodeWorkers(leader, cluster, ipam, events, checks, policy.draining, node, slices, status, rollouts)
