"""Joining nodes, relative to the API writes that they take."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from operator import attrgetter
from pathlib import Path

from lab.bench.measure import (
    Options,
    Row,
    count_requests,
    count_writes,
    cpu_seconds,
    join,
    list_requests,
    seconds_for_all,
    wait_counted,
)
from lab.build.assets import find_assets
from lab.cluster.api_server import ApiServer
from lab.manifests import ZONE, registered_node_manifest, static_route
from lab.product import Product
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.conditions import RESERVED, Condition
from overlay_net.model.names import (
    CONTROLLER_FIELD_MANAGER,
    NODE_LABEL,
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_ADDRESSES,
    REGION_LABEL,
    ZONE_LABEL,
)

PARALLEL = 16
NODES_JOINING = 1000
ROUTES = 100
ROUNDS = 3
"""The round with the median ratio counts, as the speed of a machine that others use as well changes all the time."""


def bench_nodes(directory: Path, options: Options) -> list[Row]:
    nodes, routes = options.nodes or NODES_JOINING, ROUTES if options.routes is None else options.routes
    rounds = []
    for number in range(ROUNDS):
        place = directory / f"round-{number}"
        place.mkdir()
        rounds.append(_measure(place, nodes, routes))
    low, median, high = sorted(rounds, key=attrgetter("ratio"))
    own, joined, bare = median.own, median.joined, median.bare
    total = (joined.cpu + own) / bare.cpu
    spread = f"{median.ratio:.2f}, of {ROUNDS} rounds {low.ratio:.2f} to {high.ratio:.2f}"
    return [
        ("nodes", f"API writes only, {PARALLEL} at a time", f"{bare.seconds:.2f} s", "1.00"),
        ("nodes", f"{nodes} nodes join, {routes} StaticRoutes", f"{joined.seconds:.2f} s", spread),
        ("nodes", "  CPU per node, all processes", f"{1000 * (joined.cpu + own) / nodes:.1f} ms", f"{total:.2f}"),
        (
            "nodes",
            "  of the API server",
            f"{1000 * joined.server / nodes:.1f} ms",
            f"{joined.server / bare.server:.2f}",
        ),
        ("nodes", "  of the controller", f"{1000 * own / nodes:.2f} ms", ""),
        ("nodes", "  seconds until StaticRoutes count all", f"{median.counted:.1f} s", ""),
        (
            "nodes",
            "  writes of the controller until then",
            f"{count_writes(median.asked) / nodes:.2f}",
            list_requests(median.asked),
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Cost:
    """Seconds, and CPU seconds of the API server and of it with etcd and this process."""

    seconds: float
    server: float
    cpu: float

    @classmethod
    def so_far(cls, api_server: ApiServer) -> "_Cost":
        server = cpu_seconds(api_server.kube_apiserver.pid)
        return cls(0.0, server, server + cpu_seconds(api_server.etcd.pid) + time.process_time())

    def since(self, began: "_Cost", seconds: float) -> "_Cost":
        return _Cost(seconds, self.server - began.server, self.cpu - began.cpu)

    def mean(self, other: "_Cost") -> "_Cost":
        return _Cost((self.seconds + other.seconds) / 2, (self.server + other.server) / 2, (self.cpu + other.cpu) / 2)


@dataclass(frozen=True, slots=True)
class _Round:
    bare: _Cost
    """The mean of the bare writes before and after the nodes joined."""
    joined: _Cost
    own: float
    """CPU seconds of the controller meanwhile."""
    counted: float
    """Seconds until the StaticRoutes counted all nodes."""
    asked: Counter[tuple[str, str, str]]

    @property
    def ratio(self) -> float:
        return self.joined.seconds / self.bare.seconds


def _measure(directory: Path, nodes: int, routes: int) -> _Round:
    with ApiServer.start(directory, find_assets()) as api_server:
        product = Product(api_server, directory)
        product.install(
            {"bench": {"cidr": "10.64.0.0/16", "gateway": "10.64.0.1"}},
            {"log": {"level": "warning"}, "status_batch": "1s", "audit_interval": "5m"},
        )
        # A server that has just started may take a fifth longer, or less.
        for _warm_up in range(2):
            before = asyncio.run(_bare_writes(api_server, nodes))
            asyncio.run(_delete_bare(api_server))
        if routes:
            api_server.apply(*(static_route(f"route-{number}", subnet=_subnet(number)) for number in range(routes)))
        controller = product.start_controller()
        try:
            asyncio.run(wait_counted(str(api_server.admin()), 0))
            asked, began, own = count_requests(api_server), _Cost.so_far(api_server), cpu_seconds(controller.pid)
            seconds = asyncio.run(join(str(api_server.admin()), parallel=PARALLEL, count=nodes))
            own = cpu_seconds(controller.pid) - own
            joined = _Cost.so_far(api_server).since(began, seconds)
            counted = asyncio.run(wait_counted(str(api_server.admin()), nodes))
            asked = count_requests(api_server) - asked
        finally:
            product.close()
        after = asyncio.run(_bare_writes(api_server, nodes))
    return _Round(before.mean(after), joined, own, counted, asked)


def _subnet(number: int) -> str:
    return f"172.{20 + number // 256}.{number % 256}.0/24"


async def _bare_writes(api_server: ApiServer, count: int) -> _Cost:
    """The writes of every node without a controller: Node, object, record, status, of the same sizes."""
    async with connect_agent(str(api_server.admin())) as connection:
        api, began = KubeApi(connection), _Cost.so_far(api_server)
        seconds = await seconds_for_all(partial(_write_node, api), parallel=PARALLEL, count=count)
        return _Cost.so_far(api_server).since(began, seconds)


async def _delete_bare(api_server: ApiServer) -> None:
    async with connect_agent(str(api_server.admin())) as connection:
        api = KubeApi(connection)
        for resource in (NODE_OVERLAY_IPS, OVERLAY_ADDRESSES, NODES):
            for name in await api.names(resource):
                await api.delete(resource, name)


async def _write_node(api: KubeApi, number: int) -> None:
    name, address = f"bare-{number}", str(ip_address("10.99.0.0") + number + 2)
    node = await api.create(NODES, registered_node_manifest(name, number))
    uid = node["metadata"]["uid"]
    labels = {NODE_LABEL: name, ZONE_LABEL: ZONE, REGION_LABEL: "us-south"}
    sets = [{"name": f"rs-{number:012x}", "since": "2026-01-01T00:00:00Z"}]
    spec = {"node": {"uid": uid, "bootID": ""}, "clusterID": uid, "routeSets": sets}
    body = NODE_OVERLAY_IPS.manifest(name, labels=labels, spec=spec)
    await api.create(NODE_OVERLAY_IPS, body, field_manager=CONTROLLER_FIELD_MANAGER)
    record = {"address": address, "pool": "bare", "node": name, "nodeUID": uid}
    await api.create(OVERLAY_ADDRESSES, OVERLAY_ADDRESSES.manifest(address, labels={NODE_LABEL: name}, spec=record))
    reserved = Condition(RESERVED, True, "Reserved", f"{address} is reserved from pool bare", 0, datetime.now(UTC))
    status = {"ipAddr": f"{address}/16", "gateway": "10.99.0.1", "pool": "bare", "nodeUID": uid}
    body = NODE_OVERLAY_IPS.manifest(name, status=status | {"conditions": [reserved.to_json()]})
    await api.apply(NODE_OVERLAY_IPS, name, body, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status")
