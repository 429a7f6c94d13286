"""The agent with its monitor and queue on the real kernel: a deleted parent, and a reconciliation in many passes."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.agent.apply import NodeKernel
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.conditions import find_condition
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Observed
from overlay_net.model.kernel_actions import RouteAction
from overlay_net.model.kernel_changes import KernelChanges
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import (
    OVERLAY,
    ROUTE,
    Edge,
    edge,
    make_config,
    netns,
    node_overlay_ip,
    observed_source,
    require,
)
from tests.fakes.agent import make_agent
from tests.fakes.background import background
from tests.fakes.netns import ip, sysctl

__all__ = ["edge", "netns"]


class RecordingKernel:
    """The real kernel; records the links whose sysctls were observed last."""

    def __init__(self, kernel: Kernel) -> None:
        self.apply, self.apply_routes, self.apply_sysctls = kernel.apply, kernel.apply_routes, kernel.apply_sysctls
        self.sysctl_links: frozenset[str] = frozenset()
        self._kernel = kernel

    async def observe(
        self, sysctl_links: Collection[str], *, awaited: AwaitedRoutes, changes: KernelChanges
    ) -> Observed:
        self.sysctl_links = frozenset(sysctl_links)
        return await self._kernel.observe(sysctl_links, awaited=awaited, changes=changes)


@asynccontextmanager
async def running(
    kernel: NodeKernel, config: LinkConfig, found: JsonObject | None = None
) -> AsyncIterator[list[Report]]:
    """The agent with its monitor and queue, but without an API server."""
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((found or node_overlay_ip(str(OVERLAY), ROUTE),), "7"))
    reports: list[Report] = []
    agent = make_agent(kernel, store, reports, config, MARK)
    queue = WorkQueue()
    monitor = Monitor(MARK.protocol, lambda: queue.add_after("n1", 0.005))
    async with background(monitor.run(), run_workers("agent", queue, agent.reconcile, workers=1)):
        yield reports


async def until_configured(reports: list[Report], reason: str) -> None:
    async with asyncio.timeout(20):
        while True:
            found = find_condition(reports[-1].conditions, "Configured") if reports else None
            if found is not None and found.reason == reason:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("mode", "parent"), [("macvlan", "eth0"), ("macvlan", "node-ip"), ("address", "eth7,eth*")])
async def test_everything_is_restored_when_a_deleted_parent_is_back(edge: Edge, mode: str, parent: str) -> None:
    require("macvlan")
    async with Kernel(MARK) as real, running(kernel := RecordingKernel(real), make_config(mode, parent)) as reports:
        await until_configured(reports, "Configured")
        assert observed_source() == str(OVERLAY.ip)
        ip("link", "delete", "eth0")
        await until_configured(reports, "ParentMissing")
        assert "tmp0" not in ip("link")
        assert reports[-1].configured is None
        edge.add_interface()
        await until_configured(reports, "Configured")
        async with asyncio.timeout(20):
            while not find_condition(reports[-1].conditions, "Ready").status:  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        assert observed_source() == str(OVERLAY.ip)
        assert kernel.sysctl_links == {"tmp0", "eth0"}, "the sysctls of the parent are observed"
        if mode == "macvlan":
            assert sysctl("eth0", "arp_ignore") == "1"


class OneAtATime:
    """The real kernel; changes only the first of several routes."""

    def __init__(self, kernel: Kernel) -> None:
        self.observe, self.apply, self.apply_sysctls = kernel.observe, kernel.apply, kernel.apply_sysctls
        self._kernel = kernel

    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        return await self._kernel.apply_routes(actions[:1])


async def test_link_that_someone_renames_is_replaced(edge: Edge) -> None:
    require("macvlan")
    async with Kernel(MARK) as kernel, running(kernel, make_config()) as reports:
        await until_configured(reports, "Configured")
        for change in ("tmp0 down", "tmp0 name renamed0", "renamed0 up"):
            ip("link", "set", *change.split())
        async with asyncio.timeout(20):
            while "renamed0" in ip("link") or not ip("route", "show", "192.168.0.0/24"):
                await asyncio.sleep(0.005)
        await until_configured(reports, "Configured")
        assert observed_source() == str(OVERLAY.ip)


async def test_unfinished_reconciliation_is_continued_before_the_next_resync(edge: Edge) -> None:
    require("macvlan")
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    routes = ({**ROUTE, "subnet": f"172.16.{number}.0/24"} for number in range(6))
    store.replace(Listing((node_overlay_ip(str(OVERLAY), *routes),), "7"))
    reports: list[Report] = []
    async with Kernel(MARK) as kernel:
        config = make_config("macvlan", "eth0")
        agent = make_agent(OneAtATime(kernel), store, reports, config, MARK)
        waits = [(await agent.reconcile("n1")).after for _ in range(3)]
    assert waits[0] == 1.0
    assert waits[-1] == 60.0
    assert reports[-1].routes_ready == 6
