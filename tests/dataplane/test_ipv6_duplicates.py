"""An IPv6 address that another machine has: found by the kernel, or before it is set, and reported as in IPv4."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from overlay_net.adapters.neighbours import link_local
from overlay_net.adapters.netlink import Kernel
from overlay_net.agent.address_guard import AddressGuard
from overlay_net.agent.gateway_probe import gateway_probe
from overlay_net.agent.gateway_prober import GatewayProber
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.agent.neighbours import Neighbours
from overlay_net.agent.reconciler import NodeAgent
from overlay_net.domain.allocation.conflict import in_conflict
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import interface_selector
from overlay_net.model.api import Listing
from overlay_net.model.conditions import find
from overlay_net.model.kernel import Address
from overlay_net.model.kernel_actions import AddAddress
from overlay_net.model.overlay import NodeOverlay, Report
from overlay_net.model.policy_rule import SourceTable
from overlay_net.runtime.store import Store
from tests.dataplane.conftest import MARKS
from tests.dataplane.neighbours import MACHINE_MAC, OVERLAY_MAC, Lan, lan, until
from tests.fakes.agent import make_agent
from tests.fakes.netns import ip

__all__ = ["lan"]

OURS, FREE = "fd00:7::4/64", "fd00:7::5/64"
ROUTES = [{"subnet": "fd00:8::/64", "staticRoute": "r", "gateways": [{"address": "fd00:7::1"}]}]


@dataclass
class Node:
    """The agent of this namespace, with the kernel, neighbours and clock that there are."""

    agent: NodeAgent
    kernel: Kernel
    store: Store[NodeOverlay]
    guard: AddressGuard
    reports: list[Report]

    def assign(self, address: str) -> None:
        raw: dict[str, Any] = {
            "metadata": {"name": "n1", "uid": "u", "resourceVersion": address},
            "spec": {"routes": ROUTES},
            "status": {"ipAddr": address, "gateway": "fd00:7::1"},
        }
        self.store.replace(Listing((raw,), "1"))

    async def work(self) -> Report:
        """What the agent would report now."""
        self.reports.clear()
        await self.agent.reconcile("n1")
        return self.reports[-1]

    async def address(self, interface: str) -> Address | None:
        found = (await self.kernel.observe()).addresses
        return next((each for each in found if each.interface == ip_interface(interface)), None)

    async def until(self, interface: str, **wanted: bool) -> Address:
        async with asyncio.timeout(20):
            while True:
                found = await self.address(interface)
                if found is not None and all(getattr(found, key) == value for key, value in wanted.items()):
                    return found
                await asyncio.sleep(0.01)


@pytest.fixture
async def node(lan: Lan) -> AsyncIterator[Node]:
    ip("link", "delete", "tmp0")
    reports: list[Report] = []
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    neighbours = Neighbours(lambda: None, own_macs=lambda: {MACHINE_MAC, OVERLAY_MAC})
    async with (
        Kernel(MARKS) as kernel,
        GatewayProber(gateway_probe(neighbours.resolve), lambda: None) as prober,
    ):
        guard = AddressGuard(neighbours, MARKS, asyncio.get_running_loop().time)
        rules = LinkConfig(interface_selector("eth0", None), mac=OVERLAY_MAC, source=SourceTable(117, 11700, 8))
        agent = make_agent(kernel, store, reports, rules, MARKS, guard=guard, gateways=GatewayWatch(prober))
        yield Node(agent, kernel, store, guard, reports)
    neighbours.close()


def condition(report: Report, kind: str) -> tuple[bool, str, str]:
    found = find(report.conditions, kind)
    assert found is not None
    return found.status, found.reason, found.message


def can_ask() -> bool:
    return link_local("tmp0") is not None


def is_conflict(node: Node, report: Report) -> bool:
    """Whether the controller would give the node another address."""
    raw: dict[str, Any] = {"metadata": {"name": "n1"}, "status": {"ipAddr": OURS, **report.to_json()}}
    return in_conflict(NodeOverlay.parse(raw))


async def test_a_free_address_is_asked_for_by_the_kernel_and_then_used(node: Node) -> None:
    node.assign(OURS)
    report = await node.work()
    assert condition(report, "Configured")[:2] == (False, "AddressTentative")
    assert condition(report, "Ready")[0] is False
    await node.until(OURS, in_use=True)
    report = await node.work()
    assert condition(report, "Configured")[:2] == (True, "Configured")
    assert condition(report, "Ready")[:2] == (True, "Ready")
    assert "src fd00:7::4" in ip("-6", "route", "show", "fd00:8::/64")
    assert "from fd00:7::4 lookup 117" in ip("-6", "rule")
    assert not is_conflict(node, report)


async def test_a_duplicate_that_the_kernel_finds_is_reported_and_not_configured(lan: Lan, node: Node) -> None:
    other = lan.machine("other", OURS)
    node.assign(OURS)
    # The link is new: nobody can ask before the kernel itself does.
    await node.work()
    await node.until(OURS, dad_failed=True)
    report = await node.work()
    assert condition(report, "Configured")[:2] == (False, "AddressConflict")
    assert condition(report, "Ready")[0] is False
    assert report.configured is None
    assert report.conflict == ip_address("fd00:7::4")
    assert is_conflict(node, report)
    assert await node.address(OURS) is None, "it is not left in the kernel"
    assert "117" not in ip("-6", "route", "show", "table", "all", "proto", "117")
    again = await node.work()
    assert (again.conflict, await node.address(OURS)) == (report.conflict, None), "it is not tried at once again"
    node.assign(FREE)
    await node.work()
    await node.until(FREE, in_use=True)
    report = await node.work()
    assert condition(report, "Configured")[:2] == (True, "Configured")
    assert (report.conflict, str(report.configured)) == (None, FREE)
    assert OURS.split("/")[0] in other.ip("-6", "address"), "the other one has it still"


async def test_who_has_it_is_told_once_the_link_can_ask(lan: Lan, node: Node) -> None:
    other = lan.machine("other", OURS)
    node.assign(FREE)
    await node.work()
    await node.until(FREE, in_use=True)
    await until(can_ask, "the link-local address is in use")
    node.assign(OURS)
    report = await node.work()
    assert report.conflict == ip_address("fd00:7::4")
    assert node.guard.rejected is not None
    assert node.guard.rejected.mac == lan.mac(other)
    assert await node.address(OURS) is None, "the kernel was spared the attempt"


async def test_a_failed_address_on_the_link_is_no_configured_one(lan: Lan, node: Node) -> None:
    """As an earlier run left it."""
    node.assign(FREE)
    await node.work()
    await node.until(FREE, in_use=True)
    await until(can_ask, "the link-local address is in use")
    other = lan.machine("other", OURS)
    await node.kernel.apply(AddAddress("tmp0", ip_interface(OURS)))
    await node.until(OURS, dad_failed=True)
    node.assign(OURS)
    report = await node.work()
    assert report.conflict == ip_address("fd00:7::4")
    assert node.guard.rejected is not None
    assert node.guard.rejected.mac == lan.mac(other)
    assert await node.address(OURS) is None
