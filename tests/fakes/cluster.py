"""A cluster of a few nodes in memory: objects, IPAM records, agents and clock, driven by the product's own controller.

The Kubernetes API is tests.fakes.kube. The controller is NodeReconciler, Auditor and ClusterIpam as they are; it can
die before any of its writes, or be paused there and go on after others have replaced it.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Interface, ip_address
from typing import Any

from overlay_net.adapters.cluster_ipam import ClusterIpam, object_name
from overlay_net.controller.audit import Auditor
from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import SLICES
from overlay_net.controller.ipam import IpamBackend
from overlay_net.controller.ipam_checks import IpamChecks
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.known_addresses import KnownAddresses
from overlay_net.controller.node_reconciler import NodeReconciler
from overlay_net.controller.rollout_reconciler import RolloutReconciler
from overlay_net.controller.slice_reconciler import SliceReconciler
from overlay_net.controller.status_reconciler import ROUTES, StatusReconciler
from overlay_net.domain.routes.merge import Selection, merge_routes, select_entries
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.errors import AlreadyExists, NotFound, Refused, Unavailable
from overlay_net.model.ipam import PHPIPAM, AddressRecord, Owner, Reservation
from overlay_net.model.names import (
    AGENT_FIELD_MANAGER,
    CONTROLLER_FIELD_MANAGER,
    DEFAULT_NODE_SELECTOR,
    EVENTS,
    NODE_LABEL,
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_ADDRESSES,
    OVERLAY_POOLS,
    OVERLAY_ROUTE_SLICES,
    RENUMBER_ANNOTATION,
    STATIC_ROUTES,
    Resource,
)
from overlay_net.model.net import IpAddress
from overlay_net.model.node_actions import LifecyclePolicy
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_slice import RouteSlice, by_set
from overlay_net.model.route_spec import encode_route
from overlay_net.model.selectors import Selector
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.store import Store
from tests.fakes.kube import InMemoryKube
from tests.fakes.unpaced import Unpaced

NAME = "n1"
CLUSTER = "c"
POLICY = LifecyclePolicy(release_after=timedelta(minutes=10), fence_after=timedelta(minutes=20))
ROUTER_MAC = "02:00:00:00:01:00"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
WATCHED = (NODES, NODE_OVERLAY_IPS, STATIC_ROUTES, OVERLAY_ROUTE_SLICES, OVERLAY_POOLS, OVERLAY_ADDRESSES)
"""What a controller watches, in the order of its lists."""
MAX_ROUNDS = 12
"""Reconciliations of one node after which it must have settled."""


class Killed(BaseException):
    """The controller's process ends before a write."""


@dataclass(slots=True)
class Process:
    """How far one controller gets: it ends, or is paused, before the write that follows ``writes`` more."""

    writes: int | None = None
    pauses: bool = False
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)

    async def before_write(self) -> None:
        if self.writes is None:
            return
        if self.writes:
            self.writes -= 1
            return
        if not self.pauses:
            raise Killed
        self.writes = None
        self.paused.set()
        await self.resumed.wait()


class Client:
    """The API as one controller's process reaches it."""

    def __init__(self, kube: InMemoryKube, process: Process) -> None:
        self.kube = kube
        self.process = process
        self.get = kube.get
        self.down = False

    async def _write(self, call: Awaitable[Any]) -> Any:
        try:
            await self.process.before_write()
            self._reach()
        except BaseException:
            call.close()  # type: ignore[attr-defined]
            raise
        return await call

    def _reach(self) -> None:
        if self.down:
            raise Unavailable("no answer")

    async def list(self, *arguments: Any, **more: Any) -> Any:
        self._reach()
        return await self.kube.list(*arguments, **more)

    def pages(self, resource: Resource, **options: Any) -> AsyncGenerator[Listing, None]:
        self._reach()
        return self.kube.pages(resource, **options)

    async def names(self, resource: Resource) -> set[str]:
        self._reach()
        return await self.kube.names(resource)

    async def create(self, *arguments: Any, **more: Any) -> Any:
        return await self._write(self.kube.create(*arguments, **more))

    async def apply(self, *arguments: Any, **more: Any) -> Any:
        return await self._write(self.kube.apply(*arguments, **more))

    async def update(self, *arguments: Any, **more: Any) -> Any:
        return await self._write(self.kube.update(*arguments, **more))

    async def merge_patch(self, *arguments: Any, **more: Any) -> Any:
        return await self._write(self.kube.merge_patch(*arguments, **more))

    async def delete(self, *arguments: Any, **more: Any) -> Any:
        return await self._write(self.kube.delete(*arguments, **more))


class OutsideIpam(ClusterIpam):
    """Stands in for phpIPAM: its records are not watched."""

    name = PHPIPAM

    async def find(
        self, owner: Owner, known: IpAddress | None = None, *, cached: bool = False
    ) -> tuple[Reservation, ...]:
        return await super().find(owner, known)


class Unwatched(KnownAddresses):
    """Knows the addresses in NodeOverlayIps only."""

    def __init__(self, overlays: Store[NodeOverlay]) -> None:
        super().__init__(Store(AddressRecord.parse), overlays)

    def add_written(self, _: JsonObject) -> None:
        pass


class Controller:
    """One process, from its start with complete lists to its end."""

    def __init__(self, cluster: "Cluster", process: Process) -> None:
        def clock() -> float:
            return (cluster.now - EPOCH).total_seconds()

        self.process = process
        self.caches = Caches(Selector.parse_text(DEFAULT_NODE_SELECTOR), clock)
        self.caches.protected.set_unknown("")
        self.requested: set[str] = set()
        """Nodes for which the IPAM is to be asked."""
        api: Any = Client(cluster.kube, process)
        self.ipam_client: Any = Client(cluster.ipam_kube, process)
        known = self.caches.known_addresses
        pools = self.caches.pools.get
        backends: list[IpamBackend] = [ClusterIpam(self.ipam_client if cluster.feed else api, CLUSTER, known, pools)]
        if not cluster.feed and cluster.phpipam_configured:
            backends.append(OutsideIpam(self.ipam_client, CLUSTER, Unwatched(self.caches.overlays), pools))
        self.ipam = IpamRouter(backends, records=self.caches.released_records)
        self.events = EventRecorder(cluster.kube, CONTROLLER_FIELD_MANAGER, "test")
        metrics = ControllerMetrics()
        self.status_client = Client(cluster.kube, Process())
        status_api: Any = self.status_client
        self._staged: set[str] = set()
        """StaticRoutes with a staged rollout that a change concerns."""
        self.status = StatusReconciler(
            status_api, self.caches, metrics, self.events, lambda _: None, self._staged.add, Unpaced()
        )
        self.rollouts = RolloutReconciler(self.caches, self.status.feed, lambda _: None)
        self.clock_error = cluster.controller_clock_error

        def now() -> datetime:
            return cluster.now + self.clock_error

        checks = IpamChecks(self.caches, self.requested.add)
        self.node = NodeReconciler(
            api, self.ipam, self.caches, CLUSTER, cluster.policy, self.events, checks, now, clock
        )
        self.slices = SliceReconciler(api, self.caches, now, clock, seconds_per_node=0)
        self.auditor = Auditor(
            api, self.ipam, self.caches, timedelta(minutes=5), checks.request, self.events, metrics, clock
        )
        self.stores: dict[str, Store[Any]] = {
            NODES.plural: self.caches.nodes,
            NODE_OVERLAY_IPS.plural: self.caches.overlays,
            STATIC_ROUTES.plural: self.caches.routes,
            OVERLAY_ROUTE_SLICES.plural: self.caches.slices,
            OVERLAY_POOLS.plural: self.caches.pools,
            OVERLAY_ADDRESSES.plural: self.caches.records,
        }
        self.undelivered: list[tuple[Resource, WatchEvent]] = []

    def deliver(self) -> None:
        """The watches catch up."""
        for resource, event in self.undelivered:
            store = self.stores.get(resource.plural)
            if store is not None:
                store.apply(event)
        self.undelivered.clear()

    async def update_status(self) -> None:
        """Update the status of the StaticRoutes that changes concern, and admit the next nodes of rollouts."""
        while await self.status.reconcile(ROUTES) is not None:
            pass
        while self._staged:
            await self.rollouts.reconcile(self._staged.pop())

    async def run(self, cluster: "Cluster") -> bool:
        """Reconcile until nothing is left to do; False where the IPAM did not answer."""
        for _ in range(MAX_ROUNDS):
            before = cluster.changes
            self.caches.demand.decide()
            try:
                await self.slices.reconcile(SLICES)
                for name in cluster.names:
                    await self.node.reconcile(name)
                for name in sorted(self.requested):
                    self.requested.discard(name)
                    await self.node.reconcile_address(name)
            except (Unavailable, Refused):
                return False
            if cluster.changes == before and not self.requested:
                return True
            if not cluster.is_running(self):
                # It was paused: others have replaced it, and it ends when it finds that it is the leader no more.
                return False
        assert cluster.watches_lag, "the node does not settle"
        return False


class Cluster:
    """``feed``: the IPAM's records are watched, as those of an in-cluster pool; else they are phpIPAM's."""

    def __init__(self, *, feed: bool = True) -> None:
        self.now = EPOCH
        """The true time."""
        self.controller_clock_error = timedelta()
        """How far the wall clock of controllers that start from now on is ahead."""
        self.server_clock_error = timedelta()
        """How far the wall clock of the API server is ahead."""
        self.feed = feed
        self.policy = POLICY
        self.kube = InMemoryKube(self.server_clock)
        self.ipam_kube = self.kube if feed else InMemoryKube(self.server_clock)
        self.names = [NAME]
        self.kernels: dict[str, IPv4Interface] = {}
        """The overlay addresses that the nodes' kernels have."""
        self.foreign_hosts: set[IpAddress] = set()
        """Addresses that an unknown host on the link uses, each with a MAC of its own."""
        self.proxy_arp = False
        """All of them are answered for by one router."""
        self.boot = ""
        """Id of the boot of the machine that the agent runs on."""
        self.lease = ""
        """The Lease that the agent reports to renew."""
        self.identifies = True
        """The agent's report names the object, the Node and the boot that it is about; earlier versions' did not."""
        self.reads_slices = True
        """Agents are of this version; those of earlier ones had their routes in the NodeOverlayIps."""
        self.ipam_down = False
        self.phpipam_configured = True
        self.watches_lag = False
        self._controller: Controller | None = None
        self._paused: list[tuple[Controller, asyncio.Task[bool]]] = []
        self.changes = 0
        """Of objects and records so far, without events."""
        self.kube.subscribers.append(self._watched)
        if not feed:
            self.ipam_kube.subscribers.append(self._changed)

    @classmethod
    async def start(cls, *pools: JsonObject, routes: Iterable[JsonObject] = (), feed: bool = True) -> "Cluster":
        cluster = cls(feed=feed)
        await cluster.set_pools(*pools)
        for route in routes:
            await cluster.kube.create(STATIC_ROUTES, route)
        return cluster

    @property
    def kernel(self) -> IPv4Interface | None:
        return self.kernels.get(NAME)

    def server_clock(self) -> datetime:
        return self.now + self.server_clock_error

    def set_clock(self, error: timedelta) -> None:
        """The wall clock of the controller's machine is set."""
        if self._controller is not None:
            self._controller.clock_error = error

    def replace_controller(self, clock_error: timedelta) -> None:
        """Another process becomes the leader, on a machine whose wall clock is this far ahead."""
        self.controller_clock_error = clock_error
        self._controller = None

    def _changed(self, resource: Resource, _: WatchEvent) -> None:
        self.changes += resource != EVENTS

    def _watched(self, resource: Resource, event: WatchEvent) -> None:
        self._changed(resource, event)
        if resource != EVENTS and self._controller is not None:
            self._controller.undelivered.append((resource, event))
            if not self.watches_lag:
                self._controller.deliver()

    # --- What there is -----------------------------------------------------------------------------------------------

    async def find(self, resource: Resource, name: str = NAME) -> JsonObject | None:
        try:
            return await self.kube.get(resource, name)
        except NotFound:
            return None

    async def overlay(self, name: str = NAME) -> JsonObject | None:
        return await self.find(NODE_OVERLAY_IPS, name)

    async def present_overlay(self, name: str = NAME) -> JsonObject:
        found = await self.overlay(name)
        assert found is not None
        return found

    async def records(self) -> dict[IpAddress, AddressRecord]:
        listing = await self.ipam_kube.list(OVERLAY_ADDRESSES)
        return {ip_address(raw["spec"]["address"]): AddressRecord.parse(raw) for raw in listing.items}

    async def own_records(self) -> list[AddressRecord]:
        return [record for record in (await self.records()).values() if record.node == NAME]

    async def events(self) -> tuple[JsonObject, ...]:
        """The events on the node's object, in their order."""
        return tuple((await self.kube.list(EVENTS)).items)

    async def announced(self) -> list[str]:
        """Reasons of the events; one that came again counts again."""
        return [raw["reason"] for raw in await self.events() for _ in range(raw.get("series", {}).get("count", 1))]

    # --- What people and other programs do ---------------------------------------------------------------------------

    async def set_pools(self, *pools: JsonObject) -> None:
        """These pools, instead of those there are."""
        for raw in (await self.kube.list(OVERLAY_POOLS)).items:
            await self.kube.delete(OVERLAY_POOLS, raw["metadata"]["name"])
        for raw in pools:
            await self.kube.create(OVERLAY_POOLS, raw)
            if "status" in raw:
                change = {"status": raw["status"]}
                await self.kube.merge_patch(OVERLAY_POOLS, raw["metadata"]["name"], change, subresource="status")

    async def set_policy(self, **changes: Any) -> None:
        """Other settings, which a controller reads at its start."""
        self.policy = replace(self.policy, **changes)
        self._controller = None

    def configure_phpipam(self, configured: bool) -> None:
        """phpIPAM is in the settings or no more, which a controller reads at its start."""
        self.phpipam_configured = configured
        self._controller = None

    async def join(self, node: JsonObject) -> None:
        """The Node registers; one of the same name that there is was deleted before."""
        name = node["metadata"]["name"]
        await self.leave(name)
        if name not in self.names:
            self.names.append(name)
        await self.kube.create(NODES, node)
        if "status" in node:
            name = node["metadata"]["name"]
            await self.kube.merge_patch(NODES, name, {"status": node["status"]}, subresource="status")

    async def leave(self, name: str = NAME) -> None:
        with contextlib.suppress(NotFound):
            await self.kube.delete(NODES, name)

    def boot_machine(self, boot: str) -> None:
        """The machine of the nodes boots: their kernels are empty."""
        self.boot = boot
        self.kernels.clear()

    async def report_boot(self) -> None:
        """The kubelet reports the boot of its machine."""
        with contextlib.suppress(NotFound):
            change = {"status": {"nodeInfo": {"bootID": self.boot}}}
            await self.kube.merge_patch(NODES, NAME, change, subresource="status")

    async def add_route(self, route: JsonObject) -> None:
        await self.kube.create(STATIC_ROUTES, route)

    async def remove_route(self, name: str) -> None:
        await self.kube.delete(STATIC_ROUTES, name)

    async def pin(self, address: str | None, name: str = NAME) -> None:
        found = await self.overlay(name)
        if found is not None and "deletionTimestamp" not in found["metadata"]:
            await self.kube.merge_patch(NODE_OVERLAY_IPS, name, {"spec": {"ipAddr": address}})

    async def renumber(self, address: str | None) -> None:
        """A person asks that the node gives up this address for another one, or takes the request back."""
        if await self.overlay() is not None:
            change = {"metadata": {"annotations": {RENUMBER_ANNOTATION: address}}}
            await self.kube.merge_patch(NODE_OVERLAY_IPS, NAME, change)

    async def set_labels(self, **labels: str | None) -> None:
        with contextlib.suppress(NotFound):
            await self.kube.merge_patch(NODES, NAME, {"metadata": {"labels": labels}})

    async def delete_overlay(self) -> None:
        with contextlib.suppress(NotFound):
            await self.kube.delete(NODE_OVERLAY_IPS, NAME)

    async def set_status(self, status: JsonObject) -> None:
        """The status that the earlier operator, or an agent, left."""
        await self.kube.merge_patch(NODE_OVERLAY_IPS, NAME, {"status": status}, subresource="status")

    async def replace_status(self, status: JsonObject) -> None:
        """The status of the object, without what else it had."""
        found = await self.present_overlay()
        removed = dict.fromkeys(found.get("status", {}).keys() - status.keys())
        await self.set_status({**removed, **status})

    async def take(self, address: str, node: str = "another-node", uid: str = "") -> None:
        """The IPAM has a record of the address for that node, if it is free; each time another one by default."""
        uid = uid or f"life-{self.changes}"
        body = {
            "metadata": {"name": object_name(ip_address(address)), "labels": {NODE_LABEL: node}},
            "spec": {"address": address, "pool": "p1", "node": node, "nodeUID": uid},
        }
        with contextlib.suppress(AlreadyExists):
            await self.ipam_kube.create(OVERLAY_ADDRESSES, body)

    async def lose_records(self) -> None:
        for raw in (await self.ipam_kube.list(OVERLAY_ADDRESSES)).items:
            await self.ipam_kube.delete(OVERLAY_ADDRESSES, raw["metadata"]["name"])

    async def run_agent(self, name: str = NAME) -> None:
        """The agent brings its node's kernel in line with the object, and reports."""
        raw = await self.overlay(name)
        if raw is None:
            self.kernels.pop(name, None)
            return
        overlay = NodeOverlay.parse(raw)
        status = self._configure(overlay)
        if self.reads_slices and overlay.route_sets is not None:
            status["observedSlices"] = dict((await self._select(overlay)).slices)
        await self.kube.apply(
            NODE_OVERLAY_IPS, name, {"status": status}, field_manager=AGENT_FIELD_MANAGER, subresource="status"
        )

    async def _select(self, overlay: NodeOverlay) -> Selection:
        slices = by_set(RouteSlice.parse(raw) for raw in (await self.kube.list(OVERLAY_ROUTE_SLICES)).items)
        return select_entries(overlay.route_sets or (), slices)

    async def routes(self, name: str = NAME) -> list[JsonObject]:
        """The routes that the agent of the node merges from its sets."""
        overlay = NodeOverlay.parse(await self.present_overlay(name))
        entries = (await self._select(overlay)).applied
        return [encode_route(each) for each in merge_routes(entries, overlay.assignment.gateway)]

    async def slices(self, name: str = NAME) -> dict[str, int]:
        """The generations, by name, of the slices that the agent of the node reads."""
        return dict((await self._select(NodeOverlay.parse(await self.present_overlay(name)))).slices)

    def _identify(self, overlay: NodeOverlay) -> JsonObject:
        """What the report is about."""
        status: JsonObject = {"observedGeneration": overlay.generation}
        if self.identifies:
            status["observedUID"] = overlay.uid
            status["lease"] = self.lease
            status["observedNode"] = {"uid": overlay.node.uid, "bootID": self.boot}
        return status

    def _configure(self, overlay: NodeOverlay) -> JsonObject:
        """Set the kernel's address, and return the report."""
        released = overlay.deleting or overlay.routes_only
        desired = None if released else overlay.assignment.address or overlay.report.configured
        status = self._identify(overlay)
        if desired is not None and desired.ip in self.foreign_hosts and desired != self.kernels.get(overlay.name):
            # Detected before it is used: the kernel keeps the address that it has.
            status["conflictingIpAddr"] = str(desired.ip)
            status["conflictingMAC"] = ROUTER_MAC if self.proxy_arp else f"02:00:00:00:00:{int(desired.ip) & 0xFF:02x}"
        else:
            self.kernels.pop(overlay.name, None)
            if isinstance(desired, IPv4Interface):
                self.kernels[overlay.name] = desired
        kernel = self.kernels.get(overlay.name)
        without = "Released" if overlay.deleting else "RoutesOnly" if overlay.routes_only else "NoAddress"
        if kernel is None:
            return status | {"conditions": [{"type": "Configured", "status": "False", "reason": without}]}
        conditions = [{"type": each, "status": "True", "reason": each} for each in ("Configured", "Ready")]
        return status | {"configuredIpAddr": str(kernel), "conditions": conditions}

    # --- The controller ----------------------------------------------------------------------------------------------

    def is_running(self, controller: Controller) -> bool:
        return controller is self._controller

    async def running(self) -> Controller:
        if self._controller is None:
            controller = Controller(self, Process())
            for resource in WATCHED:
                controller.stores[resource.plural].replace(await self.kube.list(resource))
            self._controller = controller
        self._controller.ipam_client.down = self.ipam_down
        return self._controller

    async def reconcile(self, writes: int | None = None, *, pauses: bool = False) -> bool:
        """The controller runs until nothing is left to do, or ends (or is paused) before its next write.

        Whether it came to its end. One that ended or was paused is replaced by a new one, which knows nothing of it.
        """
        controller = await self.running()
        controller.process.writes, controller.process.pauses = writes, pauses
        task = asyncio.ensure_future(controller.run(self))
        events = asyncio.ensure_future(controller.events.run())
        paused = asyncio.ensure_future(controller.process.paused.wait())
        try:
            await asyncio.wait({task, paused}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._paused.append((controller, task))
                self._controller = None
                return False
            await asyncio.sleep(0)
            return task.result()
        except Killed:
            self._controller = None
            return False
        finally:
            controller.process.writes = None
            for each in (events, paused):
                each.cancel()
            await asyncio.wait({events, paused})

    async def update_status(self, writes: int | None = None) -> None:
        """The controller updates the status of StaticRoutes, and admits the next nodes of rollouts."""
        controller = await self.running()
        controller.status_client.process = Process(writes)
        try:
            await controller.update_status()
        except Killed:
            self._controller = None

    async def settle(self) -> None:
        """Controller and agent run in turn until each has seen what the other did."""
        for _ in range(4):
            await self.reconcile()
            for name in self.names:
                await self.run_agent(name)

    async def catch_up(self) -> None:
        """The controller's watches deliver what they held back."""
        self.watches_lag = False
        if self._controller is not None:
            self._controller.deliver()

    async def resume(self) -> None:
        """Controllers that were paused go on where they were, in the order in which they were paused."""
        for controller, task in self._paused:
            controller.process.resumed.set()
            await task
        self._paused.clear()

    async def audit(self) -> None:
        """Compare the IPAM with the cluster, as the controller does from time to time."""
        controller = await self.running()
        with contextlib.suppress(Unavailable):
            await controller.auditor.audit()

    async def close(self) -> None:
        """Ends the controllers that are paused."""
        tasks = [task for _, task in self._paused]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
