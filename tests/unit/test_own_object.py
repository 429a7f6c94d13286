"""Whatever an agent and others write to its object, in any order: the agent ends with what the API server has."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.adapters.kube import KubeApi
from overlay_net.agent.own_object import OwnObjectSource
from overlay_net.agent.reporter import Reporter
from overlay_net.agent.status_writer import StatusWriter
from overlay_net.model.api import JsonObject, Listing, WatchEvent, is_older
from overlay_net.model.errors import NotFound, OverlayNetError, Refused, Unavailable
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, NODE_OVERLAY_IPS, Resource
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store
from tests.fakes.background import background
from tests.fakes.kube import InMemoryKube
from tests.fakes.virtual_time import VirtualTimeLoop

NAME = "n1"


class Server(InMemoryKube):
    """Answers take time, and can be lost; reads can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[WatchEvent] = []
        """The versions, as a watch delivers them."""
        self.subscribers.append(self._record)
        self._recorded = asyncio.Event()
        self.answer_time = 0.0
        self.losing = False
        self.failure: OverlayNetError | None = None
        self.reads = 0
        self.lists = 0

    def _record(self, _: Resource, event: WatchEvent) -> None:
        version = event.object["metadata"]["resourceVersion"]
        self.history.append(WatchEvent(event.type, {"metadata": {"resourceVersion": version}}))
        self._recorded.set()

    async def apply(self, resource: Resource, name: str, body: JsonObject, **options: Any) -> JsonObject:
        answer = await super().apply(resource, name, body, **options)
        if options["field_manager"] != CONTROLLER_FIELD_MANAGER:
            await asyncio.sleep(self.answer_time)
            if self.losing:
                raise Unavailable("no answer")
        return answer

    async def get(self, resource: Resource, name: str, *, not_before: str | None = None, **_: Any) -> JsonObject:
        if not_before is not None:
            self.reads += 1
            await asyncio.sleep(0.01)
            if self.failure is not None:
                raise self.failure
        return await super().get(resource, name)

    async def pages(self, resource: Resource = NODE_OVERLAY_IPS, **options: Any) -> AsyncGenerator[Listing, None]:
        self.lists += 1
        async for page in super().pages(resource, **options):
            yield page

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        position = 0
        while True:
            while position < len(self.history):
                event = self.history[position]
                position += 1
                if is_older(resource_version, event.object["metadata"]["resourceVersion"]):
                    yield event
            self._recorded.clear()
            await self._recorded.wait()

    async def overlay(self) -> NodeOverlay | None:
        try:
            return NodeOverlay.parse(await self.get(NODE_OVERLAY_IPS, NAME))
        except NotFound:
            return None

    async def write_of_controller(self, number: int) -> None:
        body = NODE_OVERLAY_IPS.manifest(NAME, status={"ipAddr": f"10.0.0.{number}/24"})
        if await self.overlay() is not None:
            await self.apply(NODE_OVERLAY_IPS, NAME, body, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status")

    async def recreate(self) -> None:
        await self.remove()
        await self.create(NODE_OVERLAY_IPS, NODE_OVERLAY_IPS.manifest(NAME, spec={}))

    async def remove(self) -> None:
        if await self.overlay() is not None:
            await self.delete(NODE_OVERLAY_IPS, NAME)


class Agent:
    """Reports ``reported`` about each version of its object."""

    def __init__(self, server: Server) -> None:
        self.reported = 0
        self.store: Store[NodeOverlay] = Store(NodeOverlay.parse, NodeOverlay.parse)
        self.store.subscribe(self._changed)
        api = cast(KubeApi, server)
        writer = StatusWriter(api, self.store)
        self._reporter = Reporter(writer.write, lambda: None)
        self._reflector = Reflector(OwnObjectSource(server, api, NAME, self.store, writer.wait_answer), self.store)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reporter.run())
            group.create_task(self._reflector.run())

    def _changed(self, _: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        if not self._reporter.is_shown(old, new):
            self.report(self.reported)

    def report(self, number: int) -> None:
        self.reported = number
        overlay = self.store.get(NAME)
        if overlay is not None:
            self._reporter.submit(overlay, Report(routes_desired=number, observed_uid=overlay.uid))


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Server, Agent]]:
    """An agent that has the object."""
    server = Server()
    await server.recreate()
    agent = Agent(server)
    async with background(agent.run()):
        await agent.store.wait_synced()
        yield server, agent


def run(main: Any) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


STEPS = st.lists(
    st.sampled_from(["report", "controller", "recreate", "remove", "fail", "answer", "lose", "slow", "wait", "turn"]),
    max_size=30,
)


@given(STEPS)
def test_agent_ends_with_the_object_of_the_api_server_and_its_last_report_is_there(steps: list[str]) -> None:
    run(_follow(steps))


async def _follow(steps: list[str]) -> None:
    async with running() as (server, agent):
        for number, step in enumerate(steps, start=1):
            match step:
                case "report":
                    agent.report(number)
                case "controller":
                    await server.write_of_controller(number)
                case "recreate":
                    await server.recreate()
                case "remove":
                    await server.remove()
                case "fail":
                    server.failure = Refused("403") if number % 2 else Unavailable("503")
                case "answer":
                    server.failure, server.losing, server.answer_time = None, False, 0.0
                case "lose":
                    server.losing = True
                case "slow":
                    server.answer_time = 2.0 if number % 2 else 0.005
                case "wait":
                    await asyncio.sleep(0.02)
                case "turn":
                    await asyncio.sleep(0)
        server.failure, server.losing, server.answer_time = None, False, 0.0
        # Longer than a pause after a few failures, and too short for a list after a silence.
        await asyncio.sleep(60)
        present = await server.overlay()
        assert agent.store.get(NAME) == present
        assert present is None or present.report.routes_desired == agent.reported


@pytest.mark.parametrize("failure", [Refused("403"), Unavailable("503")])
def test_a_failed_read_removes_nothing_and_is_repeated(failure: OverlayNetError) -> None:
    async def main() -> None:
        async with running() as (server, agent):
            await asyncio.sleep(1)
            before = agent.store.get(NAME)
            server.failure = failure
            await server.write_of_controller(5)
            await asyncio.sleep(60)
            assert agent.store.get(NAME) == before is not None
            assert server.reads < 20
            server.failure = None
            await asyncio.sleep(60)
            assert agent.store.get(NAME) == await server.overlay()

    run(main())


def test_changes_that_came_while_the_object_was_read_are_not_read_again() -> None:
    async def main() -> None:
        async with running() as (server, agent):
            await asyncio.sleep(1)
            for number in range(1, 9):
                await server.write_of_controller(number)
            await asyncio.sleep(60)
            assert agent.store.get(NAME) == await server.overlay()
            assert (server.reads, server.lists) == (1, 1)

    run(main())


@pytest.mark.parametrize(("answer_time", "reads"), [(0.0, 0), (0.5, 0), (5.0, 1)])
def test_an_own_report_is_not_read_unless_its_answer_is_late(answer_time: float, reads: int) -> None:
    async def main() -> None:
        async with running() as (server, agent):
            await asyncio.sleep(1)
            server.answer_time = answer_time
            agent.report(1)
            await asyncio.sleep(2)
            overlay = await server.overlay()
            assert overlay is not None and overlay.report.routes_desired == 1
            assert agent.store.get(NAME) == overlay
            assert (server.reads, server.lists) == (reads, 1)

    run(main())


def test_a_history_that_goes_back_after_a_read_is_noticed() -> None:
    async def main() -> None:
        server = Server()
        await server.recreate()
        for number in (1, 2, 3):
            await server.write_of_controller(number)
        store: Store[NodeOverlay] = Store(NodeOverlay.parse)
        server.history = [WatchEvent("MODIFIED", {"metadata": {"resourceVersion": each}}) for each in ("3", "2")]
        source = OwnObjectSource(server, cast(KubeApi, server), NAME, store, lambda: asyncio.sleep(0))
        async with aclosing(source.watch("1")) as events:
            store.apply(await anext(events))
            assert (found := store.get(NAME)) is not None and found.resource_version == "4"
            assert (await anext(events)).object["metadata"]["resourceVersion"] == "2"

    run(main())
