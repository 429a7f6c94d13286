"""The simulated agents of one process on shared connections, and when all of them are where a test wants them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from lab.agents.agent import Clients, SimulatedAgent
from lab.agents.shared import Shared
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.adapters.kube.connection import Connection

PATIENCE = 600.0
"""Seconds that a write may take, as it waits for those of all other agents of the process."""

STARTING = 32
"""How many agents may be reading their first list at a time."""


class Fleet:
    def __init__(self, watching: Connection, writing: Connection, lease_namespace: str = "") -> None:
        """Each agent has watches of its own on ``watching``; all of them write through the few of ``writing``."""
        self.agents: dict[str, SimulatedAgent] = {}
        self._shared = Shared()
        self._clients = Clients(
            overlays=KubeApi(watching, decode=self._shared.decode_overlay),
            slices=KubeApi(watching, decode=self._shared.decode_slices),
            writing=KubeApi(writing, timeout=PATIENCE),
        )
        self._lease_namespace = lease_namespace
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaited: list[_Awaited] = []

    async def start(self, names: Iterable[str]) -> None:
        """Start agents, and wait until each has read its object, or knows that there is none."""
        limit = asyncio.Semaphore(STARTING)

        async def start(name: str) -> None:
            async with limit:
                agent = self.agents[name] = SimulatedAgent(
                    name, self._clients, self._shared, self._progress, self._lease_namespace
                )
                self._tasks.add(asyncio.create_task(agent.run()))
                await agent.wait_synced()

        await asyncio.gather(*map(start, names))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait(self, condition: Callable[[SimulatedAgent], bool], names: Iterable[str] | None = None) -> float:
        """Wait until the condition has held once for each of these agents, or of all.

        Returns the time of the last one on the monotonic clock of this machine.
        """
        awaited = _Awaited(condition, self.agents if names is None else names)
        self._awaited.append(awaited)
        try:
            for agent in list(self.agents.values()):
                awaited.check(agent)
            self._raise_failures()
            await awaited.complete.wait()
        finally:
            self._awaited.remove(awaited)
        if awaited.error is not None:
            raise awaited.error
        return awaited.at

    def _progress(self, agent: SimulatedAgent) -> None:
        for awaited in self._awaited:
            awaited.check(agent)

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


class _Awaited:
    def __init__(self, condition: Callable[[SimulatedAgent], bool], names: Iterable[str]) -> None:
        self._condition = condition
        self._missing = set(names)
        self.complete = asyncio.Event()
        self.error: Exception | None = None
        self.at = time.monotonic()

    def check(self, agent: SimulatedAgent) -> None:
        if agent.name not in self._missing:
            return
        try:
            holds = self._condition(agent)
        except Exception as error:  # Of the caller, not of the agent.
            self.error = error
            self.complete.set()
            return
        if holds:
            self._missing.discard(agent.name)
            self.at = time.monotonic()
            if not self._missing:
                self.complete.set()


@asynccontextmanager
async def open_fleet(kubeconfig: Path | str, lease_namespace: str = "") -> AsyncIterator[Fleet]:
    """A fleet with the identity of ``kubeconfig``, which may write the status of every NodeOverlayIp."""
    async with (
        connect_agent(kubeconfig) as writing,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False) as session,
    ):
        fleet = Fleet(replace(writing, session=session), writing, lease_namespace)
        try:
            yield fleet
        finally:
            await fleet.stop()
