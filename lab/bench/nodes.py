"""Joining nodes, relative to the API writes that they take."""

import asyncio
from ipaddress import ip_address
from pathlib import Path

from lab.bench.measure import NODES_JOINING, Row, join, seconds_for_all
from lab.build.assets import find_assets
from lab.cluster.api_server import ApiServer
from lab.product import Product
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.api import JsonObject
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, NODE_OVERLAY_IPS, OVERLAY_ADDRESSES

PARALLEL = 16


def bench_nodes(directory: Path) -> list[Row]:
    with ApiServer.start(directory, find_assets()) as api_server:
        product = Product(api_server, directory)
        product.install({"bench": {"cidr": "10.64.0.0/16", "gateway": "10.64.0.1"}}, {"log": {"level": "warning"}})
        bare = asyncio.run(_bare_writes(str(api_server.admin())))
        product.start_controller()
        try:
            joined = asyncio.run(join(str(api_server.admin())))
        finally:
            product.close()
    ratio = bare / joined
    return [
        ("nodes", f"API writes only, {PARALLEL} at a time", f"{NODES_JOINING / bare:.0f} nodes/s", "1.00"),
        ("nodes", "through the controller", f"{NODES_JOINING / joined:.0f} nodes/s", f"{ratio:.2f}"),
    ]


async def _bare_writes(kubeconfig: str) -> float:
    """Seconds for the writes of every node without a controller: object, record, status."""
    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)

        async def one(number: int) -> None:
            name, address = f"bare-{number}", str(ip_address("10.99.0.0") + number + 2)
            body = _object("NodeOverlayIp", name)
            await api.apply(NODE_OVERLAY_IPS, name, body | {"spec": {}}, field_manager=CONTROLLER_FIELD_MANAGER)
            spec = {"address": address, "pool": "bare", "node": name, "nodeUID": "x"}
            await api.create(OVERLAY_ADDRESSES, _object("OverlayAddress", address) | {"spec": spec})
            status = {"status": {"ipAddr": f"{address}/16", "gateway": "10.99.0.1"}}
            await api.apply(
                NODE_OVERLAY_IPS, name, body | status, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status"
            )

        seconds = await seconds_for_all(one, parallel=PARALLEL)
        for resource in (NODE_OVERLAY_IPS, OVERLAY_ADDRESSES):
            for item in (await api.list(resource)).items:
                await api.delete(resource, item["metadata"]["name"])
    return seconds


def _object(kind: str, name: str) -> JsonObject:
    return {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": kind, "metadata": {"name": name}}
