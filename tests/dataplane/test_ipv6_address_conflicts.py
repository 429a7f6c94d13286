"""IPv6 address conflicts, found by the kernel or before the address is added, are reported as for IPv4."""

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
from overlay_net.model.conditions import find_condition
from overlay_net.model.kernel import Address
from overlay_net.model.kernel_actions import AddAddress
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.policy_rule import SourceTable
from overlay_net.runtime.store import Store
from tests.dataplane.conftest import MARK
from tests.dataplane.neighbours import MACHINE_MAC, OVERLAY_MAC, Lan, lan
from tests.fakes.agent import make_agent
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

OURS, FREE = "fd00:7::4/64", "fd00:7::5/64"
ROUTES = [
    {
        "subnet": "fd00:8::/64",
        "staticRoute": "r",
        "gateways": [{"address": "fd00:7::1"}],
        # There is no gateway on this link.
        "healthCheck": {"type": "none"},
    }
]


@dataclass
class Node:
    """The agent in this namespace, with the real kernel, neighbours and clock."""

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

    async def reconcile(self) -> Report:
        """Reconcile once; the agent's report."""
        self.reports.clear()
        await self.agent.reconcile("n1")
        return self.reports[-1]

    async def address(self, interface: str) -> Address | None:
        found = (await self.kernel.observe()).addresses
        return next((each for each in found if each.interface == ip_interface(interface)), None)

    async def until(self, interface: str, **flags: bool) -> Address:
        async with asyncio.timeout(20):
            while True:
                found = await self.address(interface)
                if found is not None and all(getattr(found, key) == value for key, value in flags.items()):
                    return found
                await asyncio.sleep(0.01)


@pytest.fixture
async def node(lan: Lan) -> AsyncIterator[Node]:
    ip("link", "delete", "tmp0")
    reports: list[Report] = []
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    neighbours = Neighbours(lambda: None, own_macs=lambda: {MACHINE_MAC, OVERLAY_MAC})
    async with (
        Kernel(MARK) as kernel,
        GatewayProber(gateway_probe(neighbours.resolve), lambda: None) as prober,
    ):
        guard = AddressGuard(neighbours, MARK, asyncio.get_running_loop().time)
        rules = LinkConfig(interface_selector("eth0", None), mac=OVERLAY_MAC, source=SourceTable(117, 11700, 8))
        agent = make_agent(kernel, store, reports, rules, MARK, guard=guard, gateways=GatewayWatch(prober))
        yield Node(agent, kernel, store, guard, reports)
    neighbours.close()


def condition(report: Report, kind: str) -> tuple[bool | None, str, str]:
    found = find_condition(report.conditions, kind)
    assert found is not None
    return found.status, found.reason, found.message


def can_probe() -> bool:
    return link_local("tmp0") is not None


def is_conflict(node: Node, report: Report) -> bool:
    """Whether the controller would assign another address."""
    raw: dict[str, Any] = {"metadata": {"name": "n1", "uid": "u"}, "status": {"ipAddr": OURS, **report.to_json()}}
    return in_conflict(NodeOverlay.parse(raw))


async def test_free_address_is_tentative_until_the_kernel_has_probed(node: Node) -> None:
    node.assign(OURS)
    report = await node.reconcile()
    assert condition(report, "Configured")[:2] == (False, "AddressTentative")
    assert condition(report, "Ready")[0] is False
    await node.until(OURS, in_use=True)
    report = await node.reconcile()
    assert condition(report, "Configured")[:2] == (True, "Configured")
    assert condition(report, "Ready")[:2] == (True, "Ready")
    assert "src fd00:7::4" in ip("-6", "route", "show", "fd00:8::/64")
    assert "from fd00:7::4 lookup 117" in ip("-6", "rule")
    assert not is_conflict(node, report)


async def test_conflict_found_by_the_kernel_is_reported_and_not_configured(lan: Lan, node: Node) -> None:
    other = lan.machine("other", OURS)
    node.assign(OURS)
    # The link is new and has no link-local address to probe from: the kernel probes first.
    await node.reconcile()
    await node.until(OURS, dad_failed=True)
    report = await node.reconcile()
    assert condition(report, "Configured")[:2] == (False, "AddressConflict")
    assert condition(report, "Ready")[0] is False
    assert report.configured is None
    assert report.conflict == ip_address("fd00:7::4")
    assert is_conflict(node, report)
    assert await node.address(OURS) is None, "the address is removed"
    assert "117" not in ip("-6", "route", "show", "table", "all", "proto", "117")
    again = await node.reconcile()
    assert (again.conflict, await node.address(OURS)) == (report.conflict, None), "it is not added again at once"
    node.assign(FREE)
    await node.reconcile()
    await node.until(FREE, in_use=True)
    report = await node.reconcile()
    assert condition(report, "Configured")[:2] == (True, "Configured")
    assert (report.conflict, str(report.configured)) == (None, FREE)
    assert OURS.split("/")[0] in other.ip("-6", "address"), "the other machine keeps it"


async def test_conflict_is_reported_with_its_mac_once_the_link_can_probe(lan: Lan, node: Node) -> None:
    other = lan.machine("other", OURS)
    node.assign(FREE)
    await node.reconcile()
    await node.until(FREE, in_use=True)
    await until(can_probe, "the link-local address is in use")
    node.assign(OURS)
    report = await node.reconcile()
    assert report.conflict == ip_address("fd00:7::4")
    assert node.guard.rejected is not None
    assert node.guard.rejected.mac == lan.mac(other)
    assert await node.address(OURS) is None, "the address was not added at all"


async def test_failed_address_on_the_link_is_not_configured(lan: Lan, node: Node) -> None:
    """An earlier run left it there."""
    node.assign(FREE)
    await node.reconcile()
    await node.until(FREE, in_use=True)
    await until(can_probe, "the link-local address is in use")
    other = lan.machine("other", OURS)
    await node.kernel.apply(AddAddress("tmp0", ip_interface(OURS)))
    await node.until(OURS, dad_failed=True)
    node.assign(OURS)
    report = await node.reconcile()
    assert report.conflict == ip_address("fd00:7::4")
    assert node.guard.rejected is not None
    assert node.guard.rejected.mac == lan.mac(other)
    assert await node.address(OURS) is None
