"""Repairs wait for nothing but the kernel: neither for an API server nor for a disk that does not answer."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.agent import checkpoint_writer
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.agent.reporter import Reporter
from overlay_net.model.conditions import find_condition
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.runtime.offload import THRESHOLD, offload
from tests.fakes.checkpoint_files import READ_ONLY
from tests.unit.factories import overlay
from tests.unit.test_first_answer import Prober
from tests.unit.test_first_answer import assigned as gateways_of
from tests.unit.test_node_agent import OURS, Node, assigned, ready

OTHER = "192.168.100.9/24"


def with_routes(*subnets: str, address: str = str(OURS)) -> NodeOverlay:
    gateways = [{"address": "192.168.100.1"}]
    routes = [{"subnet": subnet, "staticRoute": "r1", "gateways": gateways} for subnet in subnets]
    return overlay(spec={"routes": routes}, status={"ipAddr": address, "gateway": "192.168.100.1"})


def probed(subnet: str) -> NodeOverlay:
    generation = {"staticRoute": "r1", "uid": "uid-r1", "generation": 2, "probe": {"icmp": "10.2.0.9"}}
    found = with_routes(subnet)
    return replace(found, generations=(RouteGeneration.parse(generation),))


def subnets(node: Node) -> set[str]:
    return {str(route.subnet) for route in node.kernel.fake.routes if route.protocol == 117}


async def drift_is_repaired(node: Node) -> bool:
    """Whether one reconciliation repairs a deleted route, and one more a deleted address."""
    before = subnets(node)
    node.kernel.fake.routes = [route for route in node.kernel.fake.routes if route.protocol != 117]
    await asyncio.wait_for(node.reconcile_once(), 20)
    repaired = subnets(node) == before
    address = node.addresses
    node.kernel.fake.addresses = [each for each in node.kernel.fake.addresses if each.interface not in address]
    await asyncio.wait_for(node.reconcile_once(), 20)
    return repaired and node.addresses == address and subnets(node) == before


async def until_problem(node: Node) -> None:
    """Until the agent knows that the disk has a problem, and has reconciled since."""
    async with asyncio.timeout(20):
        while node.checkpoint.problem is None:
            await asyncio.sleep(0.001)
    await node.reconcile()


def hops(node: Node) -> set[str]:
    (route,) = [each for each in node.kernel.fake.routes if str(each.subnet) == "10.1.0.0/16"]
    return {str(hop.gateway) for hop in route.next_hops}


async def balanced() -> tuple[Node, Prober]:
    """A node with a route through two gateways that answer."""
    prober = Prober("tmp0")
    node = Node(gateways=GatewayWatch(prober))
    node.answer(gateways_of("192.168.100.1", "192.168.100.254"))
    await node.reconcile()
    assert hops(node) == {"192.168.100.1", "192.168.100.254"}
    return node, prober


async def never(_: NodeOverlay, report: Report) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "STALLED_AFTER", 0.05)
    monkeypatch.setattr(checkpoint_writer, "RETRY_AFTER", 0.01)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """A node whose object is applied, stored and reported."""
    made = Node()
    made.answer(with_routes("10.1.0.0/16"))
    await made.reconcile()
    assert ready(made.reports[-1]) == (True, "Ready")
    yield made
    made.disk.answer()


async def test_hanging_report_delays_no_repair_and_no_later_change(node: Node) -> None:
    started: list[Report] = []

    async def hang(_: NodeOverlay, report: Report) -> None:
        started.append(report)
        await asyncio.Event().wait()

    reporter = Reporter(hang, lambda: None)
    node.agent._reports = reporter
    task = asyncio.create_task(reporter.run())
    node.answer(with_routes("10.1.0.0/16", "10.2.0.0/16"))
    await node.reconcile()
    async with asyncio.timeout(20):
        while not started:
            await asyncio.sleep(0)
    assert await drift_is_repaired(node)
    node.answer(with_routes("10.3.0.0/16"))
    await asyncio.wait_for(node.reconcile(), 20)
    assert subnets(node) == {"10.3.0.0/16"}
    assert len(started) == 1, "one request at a time"
    task.cancel()


async def test_stalled_disk_delays_no_failover() -> None:
    node, prober = await balanced()
    found = node.store.get("n1")
    assert found is not None
    node.disk.hang()
    node.answer(replace(found, routes=(*found.routes, *with_routes("10.2.0.0/16").routes)))
    await node.reconcile_once()
    prober.fall(ip_address("192.168.100.1"))
    await asyncio.wait_for(node.reconcile_once(), 20)
    assert hops(node) == {"192.168.100.254"}
    node.disk.answer()


async def test_hanging_report_delays_no_failover() -> None:
    node, prober = await balanced()
    found = node.store.get("n1")
    assert found is not None
    reporter = Reporter(never, lambda: None)
    node.agent._reports = reporter
    task = asyncio.create_task(reporter.run())
    node.answer(replace(found, generation=2))
    await node.reconcile()
    await asyncio.sleep(0)
    assert not reporter.idle
    prober.fall(ip_address("192.168.100.1"))
    await asyncio.wait_for(node.reconcile_once(), 20)
    assert hops(node) == {"192.168.100.254"}
    task.cancel()


async def test_long_computations_wait_for_no_thread_that_name_resolution_occupies() -> None:
    answered = threading.Event()
    loop = asyncio.get_running_loop()
    lookups = [loop.run_in_executor(None, answered.wait) for _ in range(64)]
    assert await asyncio.wait_for(offload(THRESHOLD, sum, [1, 2]), 20) == 3
    answered.set()
    await asyncio.gather(*lookups)


@pytest.mark.parametrize("happens", ["nothing", "confirmation", "another state", "deletion"])
async def test_stalled_disk_delays_no_repair_of_what_was_applied(node: Node, happens: str) -> None:
    node.disk.hang()
    match happens:
        case "confirmation":
            current = node.store.get("n1")
            later = replace(node.checkpoint.now(), uptime=99_999.0)
            node.writer.confirm(current, later)
        case "another state":
            node.answer(with_routes("10.2.0.0/16", address=OTHER))
        case "deletion":
            node.answer(None)
    await asyncio.wait_for(node.reconcile_once(), 20)
    assert subnets(node) == {"10.1.0.0/16"}
    assert await drift_is_repaired(node)


@pytest.mark.parametrize("change", [with_routes("10.2.0.0/16", address=OTHER), probed("10.2.0.0/16")])
async def test_new_address_or_probed_change_is_applied_and_reported_only_once_its_checkpoint_is_on_disk(
    node: Node, change: NodeOverlay
) -> None:
    node.disk.hang()
    node.answer(change)
    reports = len(node.reports)
    for _ in range(3):
        await asyncio.wait_for(node.reconcile_once(), 20)
    assert (subnets(node), len(node.reports)) == ({"10.1.0.0/16"}, reports)
    node.disk.answer()
    await node.reconcile()
    assert subnets(node) == {"10.2.0.0/16"}
    assert node.disk.checkpoint is not None
    assert [str(route.subnet) for route in node.disk.checkpoint.overlay.routes] == ["10.2.0.0/16"]
    assert find_condition(node.reports[-1].conditions, "CheckpointStored") is None


async def test_change_of_routes_alone_waits_for_no_disk_but_its_report_does(node: Node) -> None:
    written: list[int] = []

    async def write(_: NodeOverlay, report: Report) -> None:
        written.append(report.routes_desired)

    reporter = Reporter(write, lambda: None, may_write=node.checkpoint.wait_settled)
    node.agent._reports = reporter
    task = asyncio.create_task(reporter.run())
    node.disk.hang()
    for change in (("10.2.0.0/16",), ("10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16")):
        node.answer(with_routes(*change))
        node.woken.clear()
        await asyncio.wait_for(node.reconcile_once(), 20)
        assert subnets(node) == set(change)
    assert written == []
    node.disk.answer()
    async with asyncio.timeout(20):
        while not reporter.idle:
            await asyncio.sleep(0)
    assert written == [3]
    assert node.disk.checkpoint is not None
    assert len(node.disk.checkpoint.overlay.routes) == 3
    assert not node.woken.is_set(), "nothing is left to do"
    task.cancel()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("change", [with_routes("10.2.0.0/16"), None], ids=["routes", "deletion"])
async def test_stalled_disk_delays_a_new_desired_state_only_for_a_while(node: Node, change: NodeOverlay | None) -> None:
    node.disk.hang()
    node.answer(change)
    await node.reconcile()
    assert subnets(node) == ({"10.2.0.0/16"} if change else set())
    if change is not None:
        await until_problem(node)
        stored = find_condition(node.reports[-1].conditions, "CheckpointStored")
        assert stored is not None
        assert (stored.status, stored.reason) == (False, "DiskStalled")
        assert "/state" in stored.message
        assert ready(node.reports[-1]) == (True, "Ready"), "the data plane is not affected"
        node.answer(with_routes("10.3.0.0/16"))
        await asyncio.wait_for(node.reconcile_once(), 20)
        assert subnets(node) == {"10.3.0.0/16"}, "the disk is known to be stalled, so it is not waited for again"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("how", ["stalled", "read-only"])
async def test_address_that_the_checkpoint_may_restore_is_still_reported(node: Node, how: str) -> None:
    """The controller would give an address that is not reported any more to another node."""
    before = replace(with_routes("10.1.0.0/16", address=OTHER), report=node.reports[-1])
    if how == "stalled":
        node.disk.hang()
    else:
        node.disk.error = READ_ONLY
    node.answer(before)
    await node.reconcile()
    await until_problem(node)
    assert {str(each) for each in node.addresses} == {OTHER}, "in the kernel it is replaced"
    report = node.reports[-1]
    assert report.configured == OURS
    configured = find_condition(report.conditions, "Configured")
    assert configured is not None
    assert (configured.status, configured.reason) == (False, "CheckpointOutdated")
    assert ready(report) == (False, "NotConfigured")
    node.disk.error = 0
    node.disk.answer()
    node.answer(replace(before, report=report))
    async with asyncio.timeout(20):
        while node.checkpoint.is_outdated:
            await node.woken.wait()
            node.woken.clear()
    await node.reconcile()
    assert str(node.reports[-1].configured) == OTHER
    assert ready(node.reports[-1]) == (True, "Ready")


@pytest.mark.usefixtures("soon")
async def test_agent_that_starts_on_a_stalled_disk_applies_the_object() -> None:
    node = Node(kept=assigned())
    node.disk.hang()
    node.answer(assigned())
    assert await node.reconcile_once() == 1
    await node.reconcile()
    assert node.addresses == {OURS}
    found: Any = find_condition(node.reports[-1].conditions, "CheckpointStored")
    assert found.reason == "DiskStalled"
    node.disk.answer()
