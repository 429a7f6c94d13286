"""A node of the earlier operator: its objects, and this product's controller and agent from then on."""

from typing import Any, Generic, TypeVar

from overlay_net.agent.apply import NodeKernel
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import ByName
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.kernel import OwnershipMark
from overlay_net.model.names import (
    AGENT_FIELD_MANAGER,
    FINALIZER,
    NODE_OVERLAY_IPS,
    OVERLAY_ROUTE_SLICES,
    STATIC_ROUTES,
)
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from tests.fakes.agent import make_agent
from tests.fakes.cluster import NAME, Cluster
from tests.fakes.route_slices import FakeSlices
from tests.unit.factories import raw_node, raw_pool

MARK = OwnershipMark(117, "overlay-net")
OVERLAY, GATEWAY = "192.168.100.4/24", "192.168.100.1"
CONFIG = LinkConfig(ByName(("eth0",)))

K = TypeVar("K", bound=NodeKernel)


def entry(hostname: str = NAME, gateway: str = GATEWAY, device: str = "tmp0") -> JsonObject:
    """An entry of StaticRoute.status.nodeStatus as the earlier operator wrote it."""
    return {"hostname": hostname, "gateway": gateway, "device": device}


class Installation(Generic[K]):
    """A node of the earlier operator, whose controller and agent are those of this product from now on."""

    def __init__(self, cluster: Cluster, kernel: K) -> None:
        self.cluster = cluster
        self.kernel = kernel
        self.reports: list[Report] = []
        self.protected: tuple[ProtectedSubnet, ...] = ()
        self.config = CONFIG
        self._store: Store[NodeOverlay] = Store(NodeOverlay.parse, NodeOverlay.parse)
        self._slices = FakeSlices()
        self._agent: Any = None

    @classmethod
    async def start(cls, kernel: K, *routes: JsonObject, with_object: bool = True) -> "Installation[K]":
        """``routes`` are StaticRoutes with the status of the earlier operator."""
        cluster = await Cluster.start(raw_pool())
        await cluster.join(raw_node())
        for raw in routes:
            await cluster.add_route(raw)
            name = raw["metadata"]["name"]
            await cluster.kube.merge_patch(STATIC_ROUTES, name, {"status": raw["status"]}, subresource="status")
        if with_object:
            metadata = {"name": NAME, "finalizers": [FINALIZER]}
            await cluster.kube.create(NODE_OVERLAY_IPS, {"metadata": metadata, "spec": {}})
            status = {"ipAddr": OVERLAY, "gateway": GATEWAY, "interface": "eth0", "interfaceLabel": "tmp0"}
            await cluster.set_status(status)
        return cls(cluster, kernel)

    async def run(self, part: str, writes: int | None = None) -> None:
        """One part of the product runs; the controller's end before the write that follows ``writes`` more."""
        match part:
            case "nodes":
                await self._protect()
                await self.cluster.reconcile(writes)
            case "status":
                await self._update_status(writes)
            case "agent":
                await self._reconcile_kernel()

    async def settle(self) -> None:
        for _ in range(4):
            for part in ("nodes", "agent", "status"):
                await self.run(part)

    async def _protect(self) -> None:
        (await self.cluster.running()).caches.protection.protect("test", self.protected)

    async def _update_status(self, writes: int | None) -> None:
        await self._protect()
        await self.cluster.update_status(writes)

    async def _reconcile_kernel(self) -> None:
        raw = await self.cluster.overlay()
        if raw is None:
            return
        self._store.replace(Listing((raw,), raw["metadata"]["resourceVersion"]))
        if self._agent is None:
            self._agent = make_agent(self.kernel, self._store, self.reports, self.config, MARK, slices=self._slices)
        self._slices.replace(*(await self.cluster.kube.list(OVERLAY_ROUTE_SLICES)).items)
        before = len(self.reports)
        await self._agent.reconcile(NAME)
        for report in self.reports[before:]:
            body = {"status": report.to_json()}
            await self.cluster.kube.apply(
                NODE_OVERLAY_IPS, NAME, body, field_manager=AGENT_FIELD_MANAGER, subresource="status"
            )

    async def adoptable(self) -> list[JsonObject]:
        return list((await self.cluster.present_overlay())["spec"].get("adoptable", []))

    async def entries(self, name: str = "r0") -> list[JsonObject]:
        raw = await self.cluster.find(STATIC_ROUTES, name)
        assert raw is not None
        return list(raw["status"]["nodeStatus"])

    async def change(self, name: str, **spec: Any) -> None:
        await self.cluster.kube.merge_patch(STATIC_ROUTES, name, {"spec": spec})

    async def is_taken_over(self) -> bool:
        routes = [raw["metadata"]["name"] for raw in (await self.cluster.kube.list(STATIC_ROUTES)).items]
        states = [[each.get("state") for each in await self.entries(name)] for name in routes]
        return not await self.adoptable() and states == [["Ready"]] * len(routes)
