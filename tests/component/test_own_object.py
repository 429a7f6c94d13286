"""An agent's view of its own object against a real API server: what it writes, what others write, and what it reads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.agent.own_object import OwnObjectSource, watch_versions
from overlay_net.agent.status_writer import StatusWriter
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import CONFIGURED, READY, Condition
from overlay_net.model.errors import Conflict, NotFound, Unavailable
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, NODE_OVERLAY_IPS
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store
from tests.component.eventually import eventually

NAME = "n1"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
CONDITIONS = tuple(Condition(each, True, "Fine", "fine", 1, SINCE) for each in (CONFIGURED, READY))


def report(interface: str, **fields: Any) -> Report:
    return Report(interface=interface, link="tmp0", conditions=CONDITIONS, **fields)


@dataclass
class Requests:
    """Of the agent, by verb."""

    verbs: list[str] = field(default_factory=list)

    def observe_request(self, verb: str, resource: str, code: int | str, seconds: float, host: str) -> None:
        self.verbs.append(verb)

    def record_contact(self) -> None:
        return


class Writing(KubeApi):
    """A client of which a test can lose or hold back the answers to writes."""

    lose = False
    release: asyncio.Event | None = None

    async def apply(self, *args: Any, **options: Any) -> JsonObject:
        answer = await super().apply(*args, **options)
        if self.release is not None:
            await self.release.wait()
        if self.lose:
            raise Unavailable("no answer: connection reset")
        return answer


@dataclass
class Agent:
    store: Store[NodeOverlay]
    writer: StatusWriter
    api: Writing
    requests: Requests
    waiting: asyncio.Event
    """Set once an event has come that waits for the answer to a write."""

    @property
    def overlay(self) -> NodeOverlay:
        found = self.store.get(NAME)
        assert found is not None
        return found

    async def write(self, written: Report) -> None:
        await self.writer.write(self.overlay, written)

    @property
    def reads(self) -> int:
        return self.requests.verbs.count("get")


@asynccontextmanager
async def following(api_server: ApiServer) -> AsyncIterator[Agent]:
    store: Store[NodeOverlay] = Store(NodeOverlay.parse, NodeOverlay.parse)
    waiting = asyncio.Event()
    async with connect_agent(str(api_server.admin())) as connection:
        requests = Requests()
        api = Writing(connection, observer=requests)
        writer = StatusWriter(api, store)

        async def wait_answer() -> None:
            waiting.set()
            await writer.wait_answer()

        source = OwnObjectSource(watch_versions(api, NAME), api, NAME, store, wait_answer)
        task = asyncio.create_task(Reflector(source, store).run())
        try:
            await store.wait_synced()
            yield Agent(store, writer, api, requests, waiting)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def current(admin: KubeApi) -> NodeOverlay | None:
    try:
        return NodeOverlay.parse(await admin.get(NODE_OVERLAY_IPS, NAME))
    except NotFound:
        return None


async def caught_up(agent: Agent, admin: KubeApi) -> None:
    async def is_equal() -> bool:
        return agent.store.get(NAME) == await current(admin)

    await eventually(is_equal, "the store has the object as the API server has it")


async def set_address(admin: KubeApi, address: str) -> None:
    body = NODE_OVERLAY_IPS.manifest(NAME, status={"ipAddr": address})
    await admin.apply(NODE_OVERLAY_IPS, NAME, body, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status")


@pytest.fixture
async def agent(admin: KubeApi, api_server: ApiServer) -> AsyncIterator[Agent]:
    await admin.create(NODE_OVERLAY_IPS, NODE_OVERLAY_IPS.manifest(NAME, spec={}))
    await set_address(admin, "192.168.100.5/24")
    async with following(api_server) as agent:
        yield agent


async def test_an_own_report_is_known_as_the_api_server_has_it_and_not_read(agent: Agent, admin: KubeApi) -> None:
    for interface in ("eth0", "eth1"):
        await agent.write(report(interface, observed_generation=1, observed_slices={"s": 1}))
        assert agent.overlay == await current(admin)
    await agent.write(report("eth1"))
    assert agent.overlay == await current(admin)
    # Its event has come after those of the reports, which were not read.
    await set_address(admin, "192.168.100.6/24")
    await caught_up(agent, admin)
    assert agent.reads == 1


async def test_a_report_that_the_object_has_changes_no_version(agent: Agent, admin: KubeApi) -> None:
    await agent.write(report("eth0"))
    before = agent.overlay
    await agent.write(report("eth0"))
    assert agent.overlay == before == await current(admin)


async def test_a_report_on_an_unknown_version_is_refused_until_that_was_read(
    agent: Agent, admin: KubeApi, api_server: ApiServer
) -> None:
    outdated: Store[NodeOverlay] = Store(NodeOverlay.parse)
    outdated.set(await admin.get(NODE_OVERLAY_IPS, NAME))
    await set_address(admin, "192.168.100.7/24")
    with pytest.raises(Conflict):
        await StatusWriter(agent.api, outdated).write(agent.overlay, report("eth0"))
    await caught_up(agent, admin)
    assert str(agent.overlay.assignment.address) == "192.168.100.7/24"
    assert agent.overlay.report == Report()
    await agent.write(report("eth0"))
    assert agent.overlay == await current(admin)


async def test_a_report_whose_answer_was_lost_is_read(agent: Agent, admin: KubeApi) -> None:
    agent.api.lose = True
    with pytest.raises(Unavailable):
        await agent.write(report("eth0"))
    await caught_up(agent, admin)
    assert agent.overlay.report == report("eth0")
    assert agent.reads == 1


async def test_an_event_that_comes_before_the_answer_to_its_write_waits_for_it(agent: Agent, admin: KubeApi) -> None:
    agent.api.release = asyncio.Event()
    agent.waiting.clear()
    writing = asyncio.create_task(agent.write(report("eth0")))
    async with asyncio.timeout(30):
        await agent.waiting.wait()
    agent.api.release.set()
    await writing
    assert agent.overlay == await current(admin)
    await set_address(admin, "192.168.100.6/24")
    await caught_up(agent, admin)
    assert agent.reads == 1


async def test_a_condition_of_the_controller_is_taken_over(agent: Agent, admin: KubeApi) -> None:
    unknown = {"type": "Ready", "status": "Unknown", "reason": "AgentSilent", "message": "m"}
    unknown["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    body = NODE_OVERLAY_IPS.manifest(NAME, status={"ipAddr": "192.168.100.5/24", "conditions": [unknown]})
    await admin.apply(NODE_OVERLAY_IPS, NAME, body, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status")
    await caught_up(agent, admin)
    assert agent.overlay.assignment.ready is not None
    await agent.write(report("eth0"))
    assert agent.overlay == await current(admin)


async def test_a_deleted_object_is_removed_and_one_of_the_same_name_is_followed(agent: Agent, admin: KubeApi) -> None:
    await agent.write(report("eth0"))
    earlier = agent.overlay
    await admin.delete(NODE_OVERLAY_IPS, NAME)
    await caught_up(agent, admin)
    await agent.writer.write(earlier, report("eth1"))
    await admin.create(NODE_OVERLAY_IPS, NODE_OVERLAY_IPS.manifest(NAME, spec={}))
    await caught_up(agent, admin)
    assert agent.overlay.uid != earlier.uid
    await agent.writer.write(earlier, report("eth1"))
    assert (await admin.get(NODE_OVERLAY_IPS, NAME)).get("status") is None


async def test_many_changes_end_with_the_last_one(agent: Agent, admin: KubeApi) -> None:
    for number in range(20, 60):
        await set_address(admin, f"192.168.100.{number}/24")
        if number % 10 == 0:
            await admin.delete(NODE_OVERLAY_IPS, NAME)
            await admin.create(NODE_OVERLAY_IPS, NODE_OVERLAY_IPS.manifest(NAME, spec={}))
    await caught_up(agent, admin)
    assert str(agent.overlay.assignment.address) == "192.168.100.59/24"
