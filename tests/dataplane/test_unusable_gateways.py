"""Gateways whose link fails, or that are the node itself, in a real kernel: the agent moves routes, and reports it."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.conditions import Condition, find_condition
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import make_config, node_overlay_ip, require
from tests.fakes.agent import make_agent
from tests.fakes.background import background
from tests.fakes.netns import ip, netns, try_ip
from tests.fakes.until import until

__all__ = ["netns"]

SUBNETS = {4: "192.168.0.0/24", 6: "fd00:99::/64"}
STORAGE = {4: "10.20.0.1", 6: "fd00:20::1"}
"""The gateway on eth1."""
OTHER = {4: "10.30.0.1", 6: "fd00:30::1"}
"""The gateway on eth2."""
OVERLAY = "192.168.100.1"


def add_link(name: str, number: int) -> None:
    """A link with one address of each family; its other end, which stands for the switch, is in this namespace too."""
    ip("link", "add", name, "type", "veth", "peer", "name", f"peer{number}")
    ip("address", "add", f"10.{number}.0.2/24", "dev", name)
    for each in (name, f"peer{number}"):
        ip("link", "set", each, "addrgenmode", "none")
        ip("link", "set", each, "up")
    ip("address", "add", f"fd00:{number}::2/64", "dev", name, "nodad")


@pytest.fixture
def links(netns: None) -> Iterator[None]:
    """Three links: eth0 is the private interface."""
    refused = try_ip("link", "add", "try0", "type", "veth", "peer", "name", "try1")
    if refused:
        pytest.skip(f"the kernel has no veth links: {refused.strip()}")
    ip("link", "delete", "try0")
    for name, number in (("eth0", 10), ("eth1", 20), ("eth2", 30)):
        add_link(name, number)
    require("macvlan")
    yield


def route(version: int, *gateways: tuple[str, int], **more: Any) -> JsonObject:
    listed = [{"address": address, "priority": priority} for address, priority in gateways]
    return {"subnet": SUBNETS[version], "staticRoute": "r", "gateways": listed, **more}


@asynccontextmanager
async def running(*routes: JsonObject) -> AsyncIterator[list[Report]]:
    """The agent with its monitor and queue, but without an API server and without probes of gateways."""
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((node_overlay_ip("192.168.100.4/24", *routes),), "7"))
    reports: list[Report] = []
    queue = WorkQueue()
    monitor = Monitor(MARK.protocol, lambda: queue.add_after("n1", 0.001))
    async with Kernel(MARK, opened=monitor.ignore) as kernel:
        agent = make_agent(kernel, store, reports, make_config("macvlan", "eth0"), MARK)
        async with background(monitor.run(), run_workers("agent", queue, agent.reconcile, workers=1)):
            yield reports


def hops(version: int = 4) -> set[str]:
    """The gateways that the kernel has for the subnet."""
    found = json.loads(ip(f"-{version}", "-j", "route", "show", SUBNETS[version]) or "[]")
    return {hop["gateway"] for each in found for hop in each.get("nexthops", [each]) if "gateway" in hop}


def conditions(reports: list[Report]) -> dict[str, Condition]:
    return {each.type: each for each in reports[-1].conditions} if reports else {}


async def until_condition(reports: list[Report], kind: str, status: bool | None, reason: str) -> Condition:
    def reached() -> bool:
        found = find_condition(reports[-1].conditions, kind) if reports else None
        return found is not None and (found.status, found.reason) == (status, reason)

    try:
        await until(reached, f"{kind} is {status}/{reason}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {conditions(reports).get(kind)}") from None
    return conditions(reports)[kind]


FAILURES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "carrier": (lambda: ip("link", "set", "peer20", "down"), lambda: ip("link", "set", "peer20", "up")),
    "down": (
        lambda: ip("link", "set", "eth1", "down"),
        # The kernel removed the IPv6 address.
        lambda: (ip("link", "set", "eth1", "up"), ip("address", "replace", "fd00:20::2/64", "dev", "eth1", "nodad")),
    ),
    "dormant": (
        lambda: ip("link", "set", "eth1", "state", "DORMANT"),
        lambda: ip("link", "set", "eth1", "state", "UP"),
    ),
    "deleted": (lambda: ip("link", "delete", "eth1"), lambda: add_link("eth1", 20)),
}


SUBNET_GONE = {("down", 6), ("deleted", 4), ("deleted", 6)}
"""Where the kernel removes the address of the link, so the link of the gateway is unknown."""


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("priorities", [(0, 0), (0, 1)], ids=["ECMP", "standby"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_routes_leave_a_link_that_fails_and_return_with_it(
    links: None, failure: str, priorities: tuple[int, int], version: int
) -> None:
    fail, repair = FAILURES[failure]
    first, second = STORAGE[version], OTHER[version]
    desired = {first, second} if priorities == (0, 0) else {first}
    async with running(route(version, (first, priorities[0]), (second, priorities[1]))) as reports:
        await until(lambda: hops(version) == desired, "the route is in place")
        await until_condition(reports, "Ready", True, "Ready")
        fail()
        await until(lambda: hops(version) == {second}, "only the other gateway is used")
        reason = "GatewayNotOnLink" if (failure, version) in SUBNET_GONE else "LinkDown"
        found = await until_condition(reports, "GatewayReachable", False, reason)
        assert first in found.message
        assert second not in found.message
        assert conditions(reports)["Ready"].status is True, "the other gateway carries the traffic"
        assert [str(each.address) for each in reports[-1].silent_gateways] == [first]
        assert (reports[-1].routes_ready, reports[-1].routes_failed) == (1, 0)
        repair()
        await until(lambda: hops(version) == desired, "the first gateway is used again")
        await until(lambda: not reports[-1].silent_gateways, "no gateway is reported any more")


@pytest.mark.parametrize(
    ("fail", "part"),
    [
        (lambda: ip("link", "set", "eth0", "down"), "eth0, the parent of tmp0, is down"),
        (lambda: ip("link", "set", "peer10", "down"), "eth0, the parent of tmp0, has no carrier"),
    ],
    ids=["down", "carrier"],
)
async def test_a_node_whose_overlay_link_cannot_carry_traffic_is_not_ready(
    links: None, fail: Callable[[], object], part: str
) -> None:
    async with running(route(4, (OVERLAY, 0))) as reports:
        await until_condition(reports, "Ready", True, "Ready")
        fail()
        found = await until_condition(reports, "Ready", False, "LinkDown")
        assert part in found.message
        assert conditions(reports)["GatewayReachable"].reason == "LinkDown"
        ip("link", "set", "eth0", "up")
        ip("link", "set", "peer10", "up")
        await until_condition(reports, "Ready", True, "Ready")
        await until(lambda: hops() == {OVERLAY}, "the route is back")


async def test_traffic_of_the_overlay_moves_to_a_gateway_on_another_link_while_the_parent_is_down(links: None) -> None:
    async with running(route(4, (OVERLAY, 0), (STORAGE[4], 1))) as reports:
        await until(lambda: hops() == {OVERLAY}, "the route is in place")
        await until_condition(reports, "Ready", True, "Ready")
        ip("link", "set", "eth0", "down")
        await until(lambda: hops() == {STORAGE[4]}, "the standby gateway is used")
        ip("link", "set", "eth0", "up")
        await until(lambda: hops() == {OVERLAY}, "the overlay gateway is used again")


async def test_the_overlay_link_that_someone_sets_down_or_deletes_is_repaired_and_keeps_its_routes(links: None) -> None:
    async with running(route(4, (OVERLAY, 0), (STORAGE[4], 1))) as reports:
        await until_condition(reports, "Ready", True, "Ready")
        for words in (("set", "tmp0", "down"), ("delete", "tmp0")):
            ip("link", *words)
            await until(lambda: hops() == {OVERLAY}, f"the route is back after {words}")
        await until(lambda: conditions(reports)["Ready"].status is True, "the node is ready")
        assert not reports[-1].silent_gateways


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_route_whose_only_link_failed_is_not_ready_and_comes_back(links: None, failure: str) -> None:
    fail, repair = FAILURES[failure]
    async with running(route(4, (STORAGE[4], 0))) as reports:
        await until_condition(reports, "Ready", True, "Ready")
        fail()
        await until(lambda: conditions(reports)["Ready"].status is False, "the node is not ready")
        await until(lambda: conditions(reports)["GatewayReachable"].status is False, "the gateway is not reachable")
        repair()
        await until(lambda: hops() == {STORAGE[4]}, "the route is in place again")
        await until_condition(reports, "Ready", True, "Ready")


@pytest.mark.parametrize(
    ("version", "own", "other"),
    [
        (4, "192.168.100.4", OVERLAY),
        (4, "10.10.0.2", "10.10.0.1"),
        (4, "10.20.0.2", STORAGE[4]),
        (6, "fd00:10::2", "fd00:10::1"),
        (6, "fd00:20::2", STORAGE[6]),
    ],
    ids=["overlay", "private", "another link", "private IPv6", "another link IPv6"],
)
async def test_a_node_that_is_a_gateway_does_not_route_to_itself(
    links: None, version: int, own: str, other: str
) -> None:
    async with running(route(version, (own, 0))) as reports:
        await until_condition(reports, "Ready", True, "Ready")
        assert hops(version) == set()
        assert [each.reason for each in reports[-1].not_needed] == ["GatewayIsThisNode"]
        assert (reports[-1].routes_desired, reports[-1].routes_failed) == (0, 0)
        assert not reports[-1].silent_gateways
    for priority in (0, 1):
        async with running(route(version, (own, 0), (other, priority))) as reports:
            await until_condition(reports, "Ready", True, "Ready")
            assert hops(version) == {other}


async def test_an_address_that_comes_to_the_node_makes_it_the_gateway_until_it_moves_away(links: None) -> None:
    """A virtual address, such as that of VRRP."""
    virtual = "10.20.0.9"
    async with running(route(4, (virtual, 0))) as reports:
        await until(lambda: hops() == {virtual}, "the route is in place")
        ip("address", "add", f"{virtual}/32", "dev", "eth1")
        await until(lambda: hops() == set(), "the node does not route to itself")
        await until(lambda: bool(reports) and reports[-1].routes_desired == 0, "the report names no failure")
        ip("address", "delete", f"{virtual}/32", "dev", "eth1")
        await until(lambda: hops() == {virtual}, "the route is back")
        await until_condition(reports, "Ready", True, "Ready")
