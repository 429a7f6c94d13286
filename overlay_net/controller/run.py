"""The controller mode: stores, queues and workers wired together."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from overlay_net.adapters.cluster_ipam import ClusterIpam
from overlay_net.adapters.kube import KubeApi, connect_controller
from overlay_net.adapters.phpipam import (
    ApiSession,
    CircuitBreaker,
    Client,
    Credentials,
    PhpIpam,
    Secret,
    connect_phpipam,
)
from overlay_net.controller.audit import Auditor
from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import SUBNET_MAP, EventRoutes, Queues, enqueue_all
from overlay_net.controller.ipam import IpamBackend
from overlay_net.controller.ipam_checks import IpamChecks
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.leader_election import leadership, make_elector
from overlay_net.controller.node_reconciler import NodeReconciler
from overlay_net.controller.pool_reconciler import PoolReconciler
from overlay_net.controller.protected_subnets import ProtectedSubnets
from overlay_net.controller.report_events import ReportEvents
from overlay_net.controller.status_reconciler import StatusReconciler
from overlay_net.controller.subnet_map import SubnetMapReconciler
from overlay_net.model.errors import CredentialsRefused, OverlayNetError
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, NAMESPACES
from overlay_net.model.node_actions import LifecyclePolicy
from overlay_net.model.parse import find_object, parse_network, parse_text
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.events import EventRecorder
from overlay_net.ops.http import serve
from overlay_net.runtime.worker import Reconcile, run_workers
from overlay_net.settings import ControllerSettings, PhpIpamSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Leader:
    """What a controller has that leads."""

    settings: ControllerSettings
    api: KubeApi
    server: str
    """The API server's URL."""
    phpipam: Client | None
    caches: Caches
    queues: Queues
    metrics: ControllerMetrics

    def start(self, group: asyncio.TaskGroup, name: str, reconcile: Reconcile, workers: int) -> asyncio.Task[None]:
        """Workers for the queue of that name."""
        queue = self.queues.by_name[name]
        return group.create_task(run_workers(name, queue, reconcile, workers=workers, observer=self.metrics))


async def run(settings: ControllerSettings) -> None:
    """Run until cancelled. Raises ConfigurationError for what only a person can mend."""
    async with leading(settings) as leader:
        await work(leader)


@asynccontextmanager
async def leading(settings: ControllerSettings) -> AsyncIterator[Leader]:
    """Entered with every store synced, once this process leads. Raises ConfigurationError."""
    metrics = ControllerMetrics()
    caches = Caches()
    queues = Queues()
    for name, queue in queues.by_name.items():
        metrics.watch_queue(name, queue)

    def unready() -> str:
        # One that stands by is as ready as the one that leads: it could take over now.
        metrics.synced.set(caches.synced)
        if elector is not None and not elector.has_read_lease:
            return f"waiting for the first look at the lease {settings.leader_election.lease_name}"
        return "" if caches.synced else "waiting for the first complete list of every kind"

    async with connect_controller(str(settings.kubeconfig) if settings.kubeconfig else None) as connection:
        elector = make_elector(settings.leader_election, KubeApi(connection, observer=metrics), metrics)
        fence = elector.remaining if elector is not None else None
        api = KubeApi(connection, observer=metrics, fence=fence)
        async with (
            serve(settings.http.bind, metrics.registry, unready),
            phpipam_client(settings.phpipam, queues, metrics, fence) as phpipam,
            asyncio.TaskGroup() as group,
        ):
            log.info("controller starts", extra={"server": connection.server})
            tasks = [group.create_task(reflector.run()) for reflector in caches.reflectors(api)]
            for store in caches.stores:
                await store.wait_synced()
            metrics.synced.set(1)
            log.info("synced", extra={"nodes": len(caches.nodes), "addresses": len(caches.records)})
            async with leadership(elector):
                yield Leader(settings, api, connection.server, phpipam, caches, queues, metrics)
            for task in tasks:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Serving:
    """What a leader does for nodes, whichever rules their life has."""

    leader: Leader
    cluster: str
    ipam: IpamRouter
    events: EventRecorder
    checks: IpamChecks
    node: NodeReconciler
    status: StatusReconciler

    def start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """The tasks, of ``group``; they begin with every node."""
        leader, queues = self.leader, self.leader.queues
        # From here on every change adds its keys; what was before is added here.
        EventRoutes(leader.caches, queues, leader.settings.status_batch.total_seconds())
        enqueue_all(leader.caches, queues)
        workers = leader.settings.workers
        return [
            group.create_task(self.events.run()),
            leader.start(group, "node", self.node.reconcile, workers),
            leader.start(group, "address", self.node.reconcile_address, workers),
            leader.start(group, "status", self.status.reconcile, 1),
        ]


async def serve_nodes(leader: Leader, policy: LifecyclePolicy) -> Serving:
    settings, api, caches, queues = leader.settings, leader.api, leader.caches, leader.queues
    cluster = settings.cluster_id or await fetch_cluster_uid(api)
    ipam = IpamRouter(backends(settings.phpipam, api, cluster, leader.phpipam, caches), leader.metrics)
    events = EventRecorder(api, CONTROLLER_FIELD_MANAGER, socket.gethostname())
    checks = IpamChecks(caches, queues.addresses.add)
    node = NodeReconciler(api, ipam, caches, cluster, policy, events, checks)
    status = StatusReconciler(api, caches, leader.metrics, events, queues.nodes.add)
    return Serving(leader, cluster, ipam, events, checks, node, status)


async def work(leader: Leader) -> None:
    """What only the controller that leads does; until cancelled."""
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
    serving = await serve_nodes(leader, policy)
    ipam, outside = serving.ipam, settings.phpipam
    metrics.watch_ipam("cluster", up=lambda: ipam.answers("cluster"), refused=lambda: False)
    refresh = outside.refresh_interval if outside else settings.audit_interval
    pool = PoolReconciler(api, ipam, caches, refresh, metrics)
    auditor = Auditor(api, ipam, caches, settings.audit_grace, serving.checks.request, serving.events, metrics)
    hosts = [(leader.server, "API server"), *([(outside.url, "phpIPAM")] if outside else [])]
    subnets = [subnet for text in settings.protected_subnets if (subnet := parse_network(text)) is not None]
    protected = ProtectedSubnets(api, caches, subnets, hosts, allow_default=settings.allow_default_route)
    await protected.refresh()
    log.info("controller works", extra={"cluster": serving.cluster})
    async with asyncio.TaskGroup() as group:
        group.create_task(protected.follow(lambda: enqueue_all(caches, queues)))
        if outside is not None and outside.subnet_map is not None:
            subnet_map = SubnetMapReconciler(api, caches, outside.subnet_map)
            queues.subnet_map.add(SUBNET_MAP)
            leader.start(group, "subnet-map", subnet_map.reconcile, 1)
        ReportEvents(caches.overlays, serving.events)
        serving.start(group)
        leader.start(group, "pool", pool.reconcile, 4)
        group.create_task(auditor.run(settings.audit_interval))


def backends(
    settings: PhpIpamSettings | None, api: KubeApi, cluster: str, client: Client | None, caches: Caches
) -> list[IpamBackend]:
    known = caches.known_addresses
    found: list[IpamBackend] = [ClusterIpam(api, cluster, known, caches.pools.get)]
    if client is not None and settings is not None:
        found.append(
            PhpIpam(
                client,
                cluster,
                caches.find_pool_by_subnet,
                known.used_by_others,
                owner_tag_field=settings.mark_field,
                lock_wait=settings.lock_wait,
                touch=settings.touch_interval,
            )
        )
    return found


@asynccontextmanager
async def phpipam_client(
    settings: PhpIpamSettings | None, queues: Queues, metrics: ControllerMetrics, fence: Callable[[], float] | None
) -> AsyncIterator[Client | None]:
    """The client of the configured phpIPAM, whose secret is watched as long as the context is open."""
    if settings is None:
        yield None
        return
    code = settings.auth == "code"
    fixed = Secret(*(each.get_secret_value() if each else "" for each in settings.fixed_secret))
    credentials = Credentials(settings.credentials_dir, fixed, code=code)
    credentials.check()
    timeout = settings.timeout.total_seconds()
    # Whoever waits for phpIPAM is looked at as soon as it answers again.
    breaker = CircuitBreaker(asyncio.get_running_loop().time, timeout, on_recovery=queues.ipam_recovered)
    metrics.watch_ipam(
        "phpipam",
        up=lambda: breaker.error is None or isinstance(breaker.error, CredentialsRefused),
        refused=lambda: isinstance(breaker.error, CredentialsRefused),
    )
    async with connect_phpipam(
        ca_file=settings.ca_file,
        insecure=settings.insecure_skip_tls_verify,
        proxy=settings.proxy or None,
        timeout=timeout,
        connections=2 * settings.concurrency,
    ) as session:
        api = ApiSession(
            session,
            settings.url,
            settings.app_id,
            credentials,
            breaker,
            metrics,
            code=code,
            concurrency=settings.concurrency,
            fence=fence,
        )
        watch = asyncio.ensure_future(credentials.watch(api.renew_credentials))
        try:
            yield Client(api)
        finally:
            watch.cancel()


async def fetch_cluster_uid(api: KubeApi) -> str:
    """The uid of kube-system: the usual identity of a cluster; waits until the API can tell it."""
    while True:
        try:
            return parse_text(find_object(await api.get(NAMESPACES, "kube-system"), "metadata").get("uid"))
        except OverlayNetError as error:
            log.warning("waiting for the API server: %s", error)
            await asyncio.sleep(2)
