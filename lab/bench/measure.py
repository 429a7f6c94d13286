"""Shared by the benchmarks: result rows, parallel calls, joining nodes."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from lab.manifests import node_manifest
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES

NODES_JOINING = 300

Row = tuple[str, str, str, str]
"""Benchmark, operation, measurement, its ratio to the limit."""


async def seconds_for_all(one: Callable[[int], Awaitable[None]], *, parallel: int) -> float:
    """Seconds to call ``one`` with every number below NODES_JOINING, ``parallel`` at a time."""
    limit = asyncio.Semaphore(parallel)

    async def guarded(number: int) -> None:
        async with limit:
            await one(number)

    began = time.perf_counter()
    await asyncio.gather(*(guarded(number) for number in range(NODES_JOINING)))
    return time.perf_counter() - began


async def join(kubeconfig: str, *, parallel: int = 16) -> float:
    """Seconds from the first created Node until every node has an address."""
    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)

        async def one(number: int) -> None:
            await api.create(NODES, node_manifest(f"node-{number}"))

        began = time.perf_counter()
        await seconds_for_all(one, parallel=parallel)
        while True:
            items = (await api.list(NODE_OVERLAY_IPS)).items
            if sum("ipAddr" in item.get("status", {}) for item in items) == NODES_JOINING:
                return time.perf_counter() - began
            await asyncio.sleep(0.1)
