"""The agent's reconciliations on a kernel in memory: what it changes, what it reports, and when the next one is due."""

import asyncio
import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, ip_interface
from itertools import islice
from typing import Any, TypeVar

import pytest

from overlay_net.agent import checkpoint_writer
from overlay_net.agent.address_guard import AddressGuard
from overlay_net.agent.checkpoint import NodeCheckpoint
from overlay_net.agent.checkpoint_writer import CheckpointWriter
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.agent.reconciler import Shadows
from overlay_net.domain.allocation.removal_plan import may_be_in_use
from overlay_net.domain.kernel.checkpoint import Moment
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import interface_selector
from overlay_net.domain.kernel.plan import KernelPlanner
from overlay_net.model.api import Listing
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.conditions import find_condition
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Desired, Link, LinkMode, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress, AddRoute, KernelAction, KernelPlan, RouteAction, SetSysctl
from overlay_net.model.kernel_changes import KernelChanges
from overlay_net.model.node import NodeInstance
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import Assignment, NodeOverlay
from overlay_net.model.route import NextHop, Route
from overlay_net.ops.agent_metrics import AgentMetrics
from overlay_net.runtime.offload import THRESHOLD
from overlay_net.runtime.store import Store
from tests.fakes.agent import NoNeighbours, make_agent
from tests.fakes.checkpoint_files import READ_ONLY, MemoryFiles
from tests.fakes.kernel import FakeKernel
from tests.fakes.route_slices import FakeSlices
from tests.unit.factories import overlay

MARK = OwnershipMark(117, "overlay-net")
MACHINE = Observed(
    links=(Link(2, "eth0", "veth", None, None, up=True),),
    addresses=(Address(2, ip_interface("10.176.162.151/26"), None),),
)
OURS = ip_interface("192.168.100.4/24")
NOW = Moment(datetime(2026, 1, 1, tzinfo=UTC), "boot-1", 5000.0)


def assigned(**metadata: Any) -> NodeOverlay:
    routes = [{"subnet": "10.1.0.0/16", "staticRoute": "r1", "gateways": [{"address": "192.168.100.1"}]}]
    status = {"ipAddr": str(OURS), "gateway": "192.168.100.1"}
    return overlay(spec={"routes": routes}, status=status, **metadata)


ActionT = TypeVar("ActionT", bound=KernelAction)


class Kernel:
    """The fake kernel as the agent uses it; ``refused``: kinds of action that fail."""

    def __init__(self) -> None:
        self.fake = FakeKernel(MARK, MACHINE)
        self.refused: tuple[type[object], ...] = ()
        self.changes: list[KernelAction] = []

    async def observe(
        self, sysctl_links: Collection[str], *, awaited: AwaitedRoutes, changes: KernelChanges
    ) -> Observed:
        return self.fake.observe(awaited)

    async def apply(self, action: KernelAction) -> None:
        if isinstance(action, self.refused):
            raise KernelError("refused by the test")
        self.fake.apply(action)
        self.changes.append(action)

    async def apply_sysctls(self, actions: Sequence[SetSysctl]) -> list[tuple[SetSysctl, KernelError]]:
        return await self._apply_all(actions)

    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        return await self._apply_all(actions)

    async def _apply_all(self, actions: Sequence[ActionT]) -> list[tuple[ActionT, KernelError]]:
        refused = []
        for action in actions:
            try:
                await self.apply(action)
            except KernelError as error:
                refused.append((action, error))
        return refused


class Node:
    """One agent, its kernel, its disk, and the API server's answers."""

    def __init__(
        self,
        kept: NodeOverlay | None = None,
        *,
        gateways: GatewayWatch | None = None,
        shadows: Shadows | None = None,
        mode: LinkMode = "macvlan",
        slices: FakeSlices | None = None,
    ) -> None:
        self.kernel = Kernel()
        self.disk = MemoryFiles()
        if kept is not None:
            self.disk.put(kept, NOW)
        self.store: Store[NodeOverlay] = Store(lambda raw: raw["object"])
        self.reports: list[Report] = []
        self.neighbours = NoNeighbours()
        self.metrics = AgentMetrics()
        self.woken = asyncio.Event()
        self.writer = CheckpointWriter(self.disk, NOW, self.woken.set)
        self.task = asyncio.create_task(self.writer.run())
        self.checkpoint = NodeCheckpoint(self.writer, "n1", timedelta(minutes=9), lambda: NOW)
        self.agent = make_agent(
            self.kernel,
            self.store,
            self.reports,
            LinkConfig(interface_selector("eth0", None), mode=mode),
            MARK,
            guard=AddressGuard(self.neighbours, MARK, lambda: 0.0),
            gateways=gateways,
            shadows=shadows,
            checkpoint=self.checkpoint,
            slices=slices,
            metrics=self.metrics,
        )

    def answer(self, found: NodeOverlay | None) -> None:
        """The API server lists the node's object, or none."""
        self.checkpoint.api_confirmed(NOW)
        self.checkpoint.api_synced()
        version = str(id(found))
        raw = {"metadata": {"name": "n1", "resourceVersion": version}, "object": found}
        self.store.replace(Listing((raw,) if found is not None else (), "1"))

    async def reconcile(self) -> float | None:
        """Reconcile, and again whenever the agent is woken, until nothing is waited for."""
        self.woken.clear()
        after = await self.reconcile_once()
        while await self._is_woken():
            self.woken.clear()
            after = await self.reconcile_once()
        return after

    async def _is_woken(self) -> bool:
        """Wait until nothing is left to read or to write; return whether the agent was woken."""
        async with asyncio.timeout(20):
            if not self.writer.is_read:
                await self.woken.wait()
            await self.writer.wait_settled()
        return self.woken.is_set()

    async def reconcile_once(self) -> float | None:
        return (await self.agent.reconcile("n1")).after

    @property
    def addresses(self) -> set[Any]:
        return {each.interface for each in self.kernel.fake.addresses} - {MACHINE.addresses[0].interface}


def ready(report: Report) -> tuple[bool | None, str]:
    found = find_condition(report.conditions, "Ready")
    assert found is not None
    return found.status, found.reason


async def test_assigned_object_is_applied_saved_and_reported_once() -> None:
    node = Node()
    node.answer(assigned())
    assert await node.reconcile() == 60
    assert node.addresses == {OURS}
    assert node.disk.checkpoint is not None
    assert node.disk.checkpoint.overlay.routes == assigned().routes
    assert [ready(report) for report in node.reports] == [(True, "Ready")]
    node.answer(replace(assigned(), report=node.reports[-1]))
    changes = len(node.kernel.changes)
    await node.reconcile()
    assert (len(node.reports), len(node.kernel.changes)) == (1, changes), "nothing is left to do"


async def test_a_report_names_the_object_the_node_and_the_boot_that_it_is_about() -> None:
    node = Node()
    found = replace(assigned(), node=NodeInstance("uid-1", "boot-0"))
    node.answer(found)
    await node.reconcile()
    report = node.reports[-1]
    assert (report.observed_uid, report.observed_node) == ("overlay-n1", NodeInstance("uid-1", "boot-1"))
    assert not replace(found, report=report).has_own_report, "the boot that the kubelet reported is another one"


async def test_nothing_is_changed_before_the_api_server_answers_or_is_known_to_be_unreachable() -> None:
    node = Node(kept=assigned())
    assert await node.reconcile() == 1
    assert node.kernel.changes == []
    node.checkpoint.api_failed()
    assert await node.reconcile() == 60
    assert node.addresses == {OURS}
    assert node.reports == [], "there is no API server to report to"


async def test_confirmed_absence_removes_everything_and_the_checkpoint() -> None:
    node = Node(kept=assigned())
    node.checkpoint.api_failed()
    await node.reconcile()
    node.answer(None)
    await node.reconcile()
    left = node.kernel.fake.observe()
    assert (left.links, left.addresses, left.routes) == (MACHINE.links, MACHINE.addresses, ())
    assert node.disk.checkpoint is None
    assert node.reports == []


async def test_deleted_object_is_not_reported_as_released_while_its_checkpoint_remains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint_writer, "RETRY_AFTER", 0.01)
    node = Node(kept=assigned())
    node.disk.error = READ_ONLY
    node.answer(assigned(deleting=True))
    await node.reconcile()
    condition = find_condition(node.reports[-1].conditions, "Configured")
    assert condition is not None
    assert condition.reason == "Releasing"
    assert "from the checkpoint: cannot write to /state: Read-only file system" in condition.message
    node.disk.error = 0
    async with asyncio.timeout(20):
        await node.woken.wait()
    await node.reconcile()
    condition = find_condition(node.reports[-1].conditions, "Configured")
    assert condition is not None
    assert condition.reason == "Released"


async def test_address_without_assignment_is_reported_until_no_checkpoint_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its assignment lost, the controller would release it as soon as it is not reported any more."""
    monkeypatch.setattr(checkpoint_writer, "RETRY_AFTER", 0.01)
    lost = replace(assigned(deleting=True), assignment=Assignment(), report=Report(configured=OURS))
    assert may_be_in_use(lost)
    node = Node(kept=assigned())
    node.disk.error = READ_ONLY
    node.answer(lost)
    await node.reconcile()
    assert not node.addresses
    held = node.reports[-1]
    assert held.configured == OURS
    assert may_be_in_use(replace(lost, report=held))
    node.disk.error = 0
    async with asyncio.timeout(20):
        while node.checkpoint.is_outdated:
            await node.woken.wait()
            node.woken.clear()
    await node.reconcile()
    released = node.reports[-1]
    assert released.configured is None
    assert not may_be_in_use(replace(lost, report=released))


async def test_address_of_another_host_is_not_configured_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()

    async def find_conflict(link: str, address: object) -> str:
        return "52:54:00:00:00:09"

    monkeypatch.setattr(node.neighbours, "find_conflict", find_conflict)
    node.answer(assigned())
    wait = await node.reconcile()
    assert wait is not None
    assert 20 <= wait <= 30, "the address is probed again before the resync"
    assert node.addresses == set()
    assert (node.reports[-1].conflict, node.reports[-1].conflict_mac) == (OURS.ip, "52:54:00:00:00:09")
    condition = find_condition(node.reports[-1].conditions, "Configured")
    assert condition is not None
    assert condition.reason == "AddressConflict"


async def test_refused_sysctl_is_logged_and_does_not_end_the_plan(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    node.answer(assigned())
    node.kernel.refused = (SetSysctl,)
    await node.reconcile()
    assert node.addresses == {OURS}
    assert any(isinstance(action, AddRoute) for action in node.kernel.changes)
    refusal = next(record for record in caplog.records if record.getMessage() == "kernel refused a change")
    assert vars(refusal)["action"] == "set sysctl"


async def test_refused_address_ends_the_plan_and_is_reported() -> None:
    node = Node()
    node.answer(assigned())
    node.kernel.refused = (AddAddress,)
    await node.reconcile()
    assert not any(isinstance(action, AddRoute) for action in node.kernel.changes)
    condition = find_condition(node.reports[-1].conditions, "Configured")
    assert condition is not None
    assert condition.reason == "KernelRefused"


async def test_refused_route_is_reported_and_the_address_stays() -> None:
    node = Node()
    node.answer(assigned())
    node.kernel.refused = (AddRoute,)
    await node.reconcile()
    assert node.addresses == {OURS}
    (failure,) = node.reports[-1].failures
    assert (failure.reason, failure.message) == ("KernelRefused", "refused by the test")
    assert ready(node.reports[-1]) == (False, "RoutesFailing")


async def test_thousands_of_obsolete_routes_do_not_block_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []
    plan_once = KernelPlanner.plan

    def plan(planner: KernelPlanner, desired: Desired, observed: Observed) -> KernelPlan:
        threads.append(threading.current_thread())
        return plan_once(planner, desired, observed)

    monkeypatch.setattr(KernelPlanner, "plan", plan)
    node = Node()
    first = Route(IPv4Network("10.0.0.0/24"), (NextHop(None, 2),), MARK.protocol)
    subnets = IPv4Network("10.0.0.0/8").subnets(new_prefix=24)
    node.kernel.fake.routes = [first.replace(subnet=subnet) for subnet in islice(subnets, THRESHOLD)]
    node.answer(assigned())
    await node.reconcile()
    assert threads
    assert threading.main_thread() != threads[0]
