"""Shared by the benchmarks: result rows, sizes, parallel calls, CPU time, joining nodes."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from lab.manifests import node_manifest
from overlay_net.adapters.kube import KubeApi, KubeSource, connect_agent
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store

NODES_JOINING = 300

Row = tuple[str, str, str, str]
"""Benchmark, operation, measurement, its ratio to the limit."""


@dataclass(frozen=True, slots=True)
class Size:
    """What the command line asks for; None: the default of the benchmark."""

    nodes: int | None = None
    routes: int | None = None


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system (proc(5), /proc/pid/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def seconds_for_all(one: Callable[[int], Awaitable[None]], *, parallel: int, count: int = NODES_JOINING) -> float:
    """Seconds to call ``one`` with every number below ``count``, ``parallel`` at a time."""
    limit = asyncio.Semaphore(parallel)

    async def guarded(number: int) -> None:
        async with limit:
            await one(number)

    began = time.perf_counter()
    await asyncio.gather(*(guarded(number) for number in range(count)))
    return time.perf_counter() - began


async def join(kubeconfig: str, *, parallel: int = 16, count: int = NODES_JOINING) -> float:
    """Seconds from the first created Node until every node has an address."""
    overlays, waiting, complete = (
        Store(NodeOverlay.parse),
        {f"node-{number}" for number in range(count)},
        asyncio.Event(),
    )

    def changed(name: str, _: NodeOverlay | None, new: NodeOverlay | None) -> None:
        if new is not None and new.assignment.address is not None:
            waiting.discard(name)
        if not waiting:
            complete.set()

    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)

        async def one(number: int) -> None:
            await api.create(NODES, node_manifest(f"node-{number}"))

        overlays.subscribe(changed)
        following = asyncio.ensure_future(Reflector(KubeSource(api, NODE_OVERLAY_IPS), overlays).run())
        try:
            await overlays.wait_synced()
            began = time.perf_counter()
            await seconds_for_all(one, parallel=parallel, count=count)
            await complete.wait()
            return time.perf_counter() - began
        finally:
            following.cancel()
