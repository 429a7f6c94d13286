"""Creates and deletes the objects of the benchmark `scale`, many at a time, and reads its StaticRoutes."""

import asyncio
import time
from collections.abc import Sequence

from lab.manifests import static_route
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.api import JsonObject
from overlay_net.model.names import NODES, STATIC_ROUTES
from overlay_net.model.parse import find_object

PARALLEL = 64


def route_manifest(number: int) -> JsonObject:
    return static_route(f"route-{number}", subnet=f"11.{number // 256}.{number % 256}.0/24")


async def write_all(kubeconfig: str, bodies: Sequence[JsonObject], verb: str) -> float:
    """Create or delete Nodes or StaticRoutes. Returns the time before the first request."""
    limit = asyncio.Semaphore(PARALLEL)
    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)

        async def one(body: JsonObject) -> None:
            resource = NODES if body["kind"] == NODES.kind else STATIC_ROUTES
            async with limit:
                if verb == "create":
                    await api.create(resource, body)
                else:
                    await api.delete(resource, body["metadata"]["name"])

        began = time.monotonic()
        await asyncio.gather(*map(one, bodies))
    return began


async def wait_status(kubeconfig: str, route: str, nodes: int, timeout: float) -> float:
    """The time at which the status of a StaticRoute counts this many nodes as ready."""
    async with connect_agent(kubeconfig) as connection, asyncio.timeout(timeout):
        api = KubeApi(connection)
        while True:
            found = await api.get(STATIC_ROUTES, route)
            if find_object(found, "status").get("ready") == nodes:
                return time.monotonic()
            await asyncio.sleep(0.1)
