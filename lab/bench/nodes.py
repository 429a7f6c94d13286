"""Joining nodes, relative to the API writes that they take."""

import asyncio
from ipaddress import ip_address
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
)
from lab.build.assets import find_assets
from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest, static_route
from lab.product import Product
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.api import JsonObject
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, NODE_OVERLAY_IPS, NODES, OVERLAY_ADDRESSES

PARALLEL = 16
NODES_JOINING = 1000
ROUTES = 100


def bench_nodes(directory: Path, options: Options) -> list[Row]:
    nodes, routes = options.nodes or NODES_JOINING, ROUTES if options.routes is None else options.routes
    with ApiServer.start(directory, find_assets()) as api_server:
        product = Product(api_server, directory)
        product.install(
            {"bench": {"cidr": "10.64.0.0/16", "gateway": "10.64.0.1"}},
            {"log": {"level": "warning"}, "status_batch": "1s"},
        )
        server = api_server.kube_apiserver.pid
        began = cpu_seconds(server)
        bare = asyncio.run(_bare_writes(str(api_server.admin()), nodes))
        bare_cpu = cpu_seconds(server) - began
        if routes:
            api_server.apply(*(static_route(f"route-{number}", subnet=_subnet(number)) for number in range(routes)))
        controller = product.start_controller()
        try:
            asked, before = count_requests(api_server), (cpu_seconds(server), cpu_seconds(controller.pid))
            joined = asyncio.run(join(str(api_server.admin()), parallel=PARALLEL, count=nodes))
            after, asked = (cpu_seconds(server), cpu_seconds(controller.pid)), count_requests(api_server) - asked
        finally:
            product.close()
    of_server, of_controller = (now - then for now, then in zip(after, before, strict=True))
    return [
        ("nodes", f"API writes only, {PARALLEL} at a time", f"{bare:.2f} s", "1.00"),
        ("nodes", f"{nodes} nodes join, {routes} StaticRoutes", f"{joined:.2f} s", f"{joined / bare:.2f}"),
        ("nodes", "API-server CPU per node", f"{1000 * of_server / nodes:.1f} ms", f"{of_server / bare_cpu:.2f}"),
        ("nodes", "controller CPU per node", f"{1000 * of_controller / nodes:.2f} ms", f"{of_controller / bare:.2f}"),
        ("nodes", "writes of the controller per node", f"{count_writes(asked) / nodes:.2f}", list_requests(asked)),
    ]


def _subnet(number: int) -> str:
    return f"172.{20 + number // 256}.{number % 256}.0/24"


async def _bare_writes(kubeconfig: str, count: int) -> float:
    """Seconds for the writes of every node without a controller: Node, object, record, status."""
    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)

        async def one(number: int) -> None:
            name, address = f"bare-{number}", str(ip_address("10.99.0.0") + number + 2)
            await api.create(NODES, node_manifest(name))
            body = _object("NodeOverlayIp", name)
            await api.create(NODE_OVERLAY_IPS, body | {"spec": {}}, field_manager=CONTROLLER_FIELD_MANAGER)
            spec = {"address": address, "pool": "bare", "node": name, "nodeUID": "x"}
            await api.create(OVERLAY_ADDRESSES, _object("OverlayAddress", address) | {"spec": spec})
            status = {"status": {"ipAddr": f"{address}/16", "gateway": "10.99.0.1"}}
            await api.apply(
                NODE_OVERLAY_IPS, name, body | status, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status"
            )

        seconds = await seconds_for_all(one, parallel=PARALLEL, count=count)
        for resource in (NODE_OVERLAY_IPS, OVERLAY_ADDRESSES, NODES):
            for name in await api.names(resource):
                await api.delete(resource, name)
    return seconds


def _object(kind: str, name: str) -> JsonObject:
    return {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": kind, "metadata": {"name": name}}
