"""The process of the simulated agents of the benchmark `scale`: the parent calls methods of `Agents` through a pipe."""

import asyncio
import multiprocessing
import os
import socket
import stat
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lab.agents.agent import SimulatedAgent
from lab.agents.fleet import Fleet, open_fleet
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.api import JsonObject
from overlay_net.model.names import AGENT_FIELD_MANAGER, Resource
from overlay_net.model.parse import find_object
from overlay_net.ops.logs import configure
from overlay_net.runtime.gc_tuning import tune_gc

TCP_BYTES = struct.Struct("@120xQQ")
"""tcpi_bytes_acked and tcpi_bytes_received of struct tcp_info (linux/tcp.h)."""
BARE = Resource("bench.iks.ibm.com", "v1alpha1", "bareoverlays", "BareOverlay")
"""A copy of NodeOverlayIp without watches."""
PATIENCE = 1800.0


class AgentsProcess:
    """The parent's side."""

    def __init__(self, kubeconfig: Path, lease_namespace: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_main, args=(other, str(kubeconfig), lease_namespace), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of Agents; raises what it raises, and SystemExit if there is no answer."""
        self._pipe.send((method, arguments))
        if not self._pipe.poll(PATIENCE):
            raise SystemExit(f"bench: the simulated agents do not answer: {method}")
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _main(pipe: Connection, kubeconfig: str, lease_namespace: str) -> None:
    import uvloop

    tune_gc()
    configure("warning", "text")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(pipe, kubeconfig, lease_namespace))


async def _serve(pipe: Connection, kubeconfig: str, lease_namespace: str) -> None:
    async with open_fleet(kubeconfig, lease_namespace) as fleet, connect_agent(kubeconfig) as connection:
        agents = Agents(fleet, KubeApi(connection, timeout=PATIENCE))
        while True:
            # In a thread: the names of thousands of nodes are more than a pipe has room for.
            method, arguments = await asyncio.to_thread(pipe.recv)
            try:
                answer = await getattr(agents, method)(*arguments)
            except Exception as error:  # Reported by the parent.
                answer = RuntimeError(f"{method}: {error!r}")
            await asyncio.to_thread(pipe.send, answer)


class Agents:
    """What the benchmark asks for; all arguments and results can be pickled."""

    def __init__(self, fleet: Fleet, api: KubeApi) -> None:
        self._fleet = fleet
        self._api = api
        self._bare: list[JsonObject] = []

    async def start(self, names: Sequence[str]) -> None:
        await self._fleet.start(names)

    async def wait_routes(self, count: int, names: Sequence[str]) -> tuple[float, float]:
        """The times at which the last of these agents had this many routes, and at which its report was written."""

        def reported(agent: SimulatedAgent) -> bool:
            report = agent.report
            return report is not None and len(agent.routes) == count == report.routes_ready and _is_ready(agent)

        placed = asyncio.ensure_future(self._fleet.wait(lambda agent: len(agent.routes) == count, names))
        at = await self._fleet.wait(reported, names)
        return await placed, at

    async def fail(self, name: str, static_routes: frozenset[str]) -> float:
        """Let routes of a node fail, and wait until that is reported. Returns the seconds."""
        began, agent = time.monotonic(), self._fleet.agents[name]
        agent.fail(static_routes)
        failing = bool(static_routes)
        at = await self._fleet.wait(
            lambda each: each.report is not None and bool(each.report.routes_failed) == failing, [name]
        )
        return at - began

    async def traffic(self) -> dict[int, tuple[int, int]]:
        """Bytes sent and received so far by each open connection, by its local port; TLS included."""
        return _traffic()

    async def create_bare(self, template: JsonObject, count: int) -> None:
        """Create objects like ``template``, the NodeOverlayIp of a node, or set them to it."""
        self._bare = [_bare(template, number) for number in range(count)]

        async def one(body: JsonObject) -> None:
            name = body["metadata"]["name"]
            await self._api.apply(BARE, name, body | {"status": None}, field_manager="bench")
            await self._write_bare(body)

        await asyncio.gather(*map(one, self._bare))

    async def write_bare(self, generation: int) -> float:
        """Write one report to each of these objects, like the agents. Returns the seconds."""
        for body in self._bare:
            body["status"]["observedGeneration"] = generation
        began = time.monotonic()
        await asyncio.gather(*map(self._write_bare, self._bare))
        return time.monotonic() - began

    async def _write_bare(self, body: JsonObject) -> None:
        name, status = (
            body["metadata"]["name"],
            {key: body[key] for key in ("apiVersion", "kind", "metadata", "status")},
        )
        await self._api.apply(BARE, name, status, field_manager=AGENT_FIELD_MANAGER, subresource="status")


def _is_ready(agent: SimulatedAgent) -> bool:
    overlay = agent.overlay
    report = agent.report
    if overlay is None or report is None or overlay.assignment.address is None:
        return False
    return any(condition.type == "Ready" and condition.status is True for condition in report.conditions)


def _bare(template: JsonObject, number: int) -> JsonObject:
    name = f"bare-{number}"
    return BARE.manifest(name, spec=template["spec"], status=dict(find_object(template, "status")))


def _traffic() -> dict[int, tuple[int, int]]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if stat.S_ISSOCK(entry.stat().st_mode):
                with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                    if connection.family in (socket.AF_INET, socket.AF_INET6):
                        content = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_BYTES.size)
                        found[connection.getsockname()[1]] = TCP_BYTES.unpack(content)
    return found
