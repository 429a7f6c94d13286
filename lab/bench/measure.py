"""Shared by the benchmarks: result rows, sizes, parallel calls, CPU time, joining nodes."""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cluster.api_server import ApiServer
from lab.manifests import registered_node_manifest
from overlay_net.adapters.kube import KubeApi, KubeSource, connect_agent
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, STATIC_ROUTES, Resource
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store

NODES_JOINING = 300
STEADY = 6
"""Consecutive samples, half a second apart, in which memory must not grow."""

REQUESTS = re.compile(r'^apiserver_request_total\{.*?resource="(\w+)".*?subresource="(\w*)".*?verb="(\w+)".*\} (\d+)$')
WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})
QUIET = frozenset({"nodes", "leases"})
"""Resources that a benchmark itself writes, or that are written in any case."""

Row = tuple[str, str, str, str]
"""Benchmark, operation, measurement, its ratio to the limit."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for; None: the default of the benchmark."""

    nodes: int | None = None
    routes: int | None = None
    against: Path | None = None
    """A directory with another version of the product."""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system (proc(5), /proc/pid/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far of each process, and the time."""

    server: float
    etcd: float
    controller: float
    agents: float
    at: float

    def since(self, before: "Usage") -> "Usage":
        return Usage(
            self.server - before.server,
            self.etcd - before.etcd,
            self.controller - before.controller,
            self.agents - before.agents,
            self.at - before.at,
        )

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.server + other.server,
            self.etcd + other.etcd,
            self.controller + other.controller,
            self.agents + other.agents,
            self.at + other.at,
        )

    def net(self, idle: "Usage") -> "Usage":
        """Without what ``idle`` would have used in the same time."""
        share = self.at / idle.at
        return Usage(
            self.server - share * idle.server,
            self.etcd - share * idle.etcd,
            self.controller - share * idle.controller,
            self.agents - share * idle.agents,
            self.at,
        )


def prefer(pid: int) -> None:
    """Let the session of a process run before all others, as on a machine of its own, if that is permitted (sched(7)).

    Otherwise its time by the clock is mostly that for which it waits for a processor.
    """
    autogroup = Path(f"/proc/{pid}/autogroup")
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, -20)
        if autogroup.exists():
            autogroup.write_text("-20")


def memory_peak(pid: int) -> int:
    """KiB of the peak resident memory of a process."""
    return _status(pid, "VmHWM")


def settled_memory(pid: int) -> int:
    """KiB of the resident memory of a process once it stops growing."""
    before, steady = _status(pid, "VmRSS"), 0
    while steady < STEADY:
        time.sleep(0.5)
        now = _status(pid, "VmRSS")
        steady = steady + 1 if now <= before else 0
        before = max(before, now)
    return _status(pid, "VmRSS")


def _status(pid: int, field: str) -> int:
    """A number of proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [each for each in lines if each.startswith(f"{field}:")]
    return int(line.split()[1])


def format_mib(kibibytes: int) -> str:
    return f"{kibibytes / 1024:.1f} MiB"


def count_requests(api_server: ApiServer) -> Counter[tuple[str, str, str]]:
    """Requests so far by resource, subresource and verb, without watches, and without Nodes and Leases."""
    found: Counter[tuple[str, str, str]] = Counter()
    for line in api_server.kubectl("get", "--raw=/metrics").splitlines():
        match = REQUESTS.match(line)
        if match and match[1] not in QUIET and match[3] != "WATCH":
            found[match[1], match[2], match[3]] += int(match[4])
    return found


def count_writes(requests: Counter[tuple[str, str, str]]) -> int:
    return sum(count for (_, _, verb), count in requests.items() if verb in WRITES)


def list_requests(requests: Counter[tuple[str, str, str]]) -> str:
    lines = (
        (count, " ".join(filter(None, (verb, resource, part)))) for (resource, part, verb), count in requests.items()
    )
    return "\n".join(f"{count} {what}" for count, what in sorted(lines, reverse=True) if count)


def sum_metric(text: str, name: str) -> float:
    """The sum of all series of a metric in Prometheus text."""
    lines = (line for line in text.splitlines() if line.startswith(name) and line[len(name)] in " {")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


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
    addresses: Store[str] = Store(lambda raw: str(raw.get("status", {}).get("ipAddr", "")))
    waiting, complete = {f"node-{number}" for number in range(count)}, asyncio.Event()

    def changed(name: str, _: str | None, new: str | None) -> None:
        if new:
            waiting.discard(name)
        if not waiting:
            complete.set()

    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)

        async def one(number: int) -> None:
            await api.create(NODES, registered_node_manifest(f"node-{number}", number))

        addresses.subscribe(changed)
        async with _followed(api, NODE_OVERLAY_IPS, addresses):
            began = time.perf_counter()
            await seconds_for_all(one, parallel=parallel, count=count)
            await complete.wait()
            return time.perf_counter() - began


async def wait_counted(kubeconfig: str, nodes: int) -> float:
    """Seconds until the status of every StaticRoute counts this many nodes."""
    counts: Store[int] = Store(lambda raw: int(raw.get("status", {}).get("desired", -1)))
    changed = asyncio.Event()
    counts.subscribe(lambda *_: changed.set())
    began = time.perf_counter()
    async with connect_agent(kubeconfig) as connection, _followed(KubeApi(connection), STATIC_ROUTES, counts):
        while any(count != nodes for count in counts.values()):
            changed.clear()
            await changed.wait()
    return time.perf_counter() - began


@asynccontextmanager
async def _followed(api: KubeApi, resource: Resource, store: Store[Any]) -> AsyncIterator[None]:
    """Keep ``store`` in sync; the context begins once it is."""
    following = asyncio.ensure_future(Reflector(KubeSource(api, resource), store).run())
    try:
        await store.wait_synced()
        yield
    finally:
        following.cancel()
