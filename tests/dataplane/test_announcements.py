"""The agent announces its address whenever a neighbour must learn where it is: seen in the neighbour's own cache."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import pytest

from lab.net.namespaces import Namespace
from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.agent.address_guard import AddressGuard
from overlay_net.agent.neighbours import Neighbours
from overlay_net.model.api import Listing
from overlay_net.model.conditions import find_condition
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import make_config, node_overlay_ip
from tests.dataplane.neighbours import MACHINE_MAC, OVERLAY_MAC, Lan, lan, make_port
from tests.fakes.agent import make_agent
from tests.fakes.background import background
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

OURS: Final = {4: "192.168.100.4", 6: "fd00:7::4"}
NETWORK: Final = {4: "192.168.100.4/24", 6: "fd00:7::4/64"}
STALE_MAC, OTHER_MAC = "52:54:00:00:00:99", "02:00:00:00:00:77"


class RecordingNeighbours(Neighbours):
    """Counts announcements, without their repetitions."""

    announcements = 0

    def announce(self, link: str, address: IpAddress) -> None:
        super().announce(link, address)
        self.announcements += 1


class Node:
    """A running agent, and a neighbour on its VLAN."""

    def __init__(self, neighbours: RecordingNeighbours, reports: list[Report], other: Namespace, version: int) -> None:
        self._neighbours = neighbours
        self._reports = reports
        self._other = other
        self.address = OURS[version]

    async def until_configured(self) -> None:
        def configured() -> bool:
            found = find_condition(self._reports[-1].conditions, "Configured") if self._reports else None
            return found is not None and found.status is True

        await until(configured, "the address is configured")
        await until(lambda: self._neighbours.announcements, "the address is announced")

    async def announces_after(self, change: Callable[[], object], link: str = "tmp0") -> None:
        """Apply the change while the neighbour has a stale MAC in its cache: it has the MAC of the link afterwards."""
        stale = ("lladdr", STALE_MAC, "dev", "eth0", "nud", "stale")
        before = self._neighbours.announcements
        change()
        self._other.ip("neighbour", "replace", self.address, *stale)
        await until(lambda: self._neighbours.announcements > before, "the address is announced again")
        # Only now, because a repetition of an earlier announcement updates the cache as well.
        await until(
            lambda: link_mac(link) in self._other.ip("neighbour", "show", self.address), "the neighbour knows it"
        )


def has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


def carrier_changes(link: str) -> int:
    (shown,) = json.loads(ip("-s", "-s", "-j", "link", "show", link))
    return int(shown["stats64"]["tx"]["carrier_changes"])


def link_mac(link: str) -> str:
    return ip("-o", "link", "show", link).partition("link/ether ")[2][:17]


@asynccontextmanager
async def running(
    lan: Lan, version: int = 4, mode: str = "macvlan", *, adopted: bool = False, other: Namespace | None = None
) -> AsyncIterator[Node]:
    if adopted:
        ip("address", "add", NETWORK[version], "dev", "tmp0")
    else:
        ip("link", "delete", "tmp0")
    other = other or lan.machine("other", "192.168.100.9/24", "fd00:7::9/64")
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((node_overlay_ip(NETWORK[version]),), "7"))
    reports: list[Report] = []
    queue = WorkQueue()
    monitor = Monitor(MARK.protocol, lambda: queue.add_after("n1", 0.001))
    clock = asyncio.get_running_loop().time
    with closing(RecordingNeighbours(lambda: None)) as neighbours:
        async with Kernel(MARK, opened=monitor.ignore) as kernel:
            guard = AddressGuard(neighbours, MARK, clock, detect=False)
            agent = make_agent(kernel, store, reports, make_config(mode), MARK, guard=guard)
            async with background(monitor.run(), run_workers("agent", queue, agent.reconcile, workers=1)):
                node = Node(neighbours, reports, other, version)
                await node.until_configured()
                yield node


def set_mac(link: str = "tmp0") -> None:
    ip("link", "set", link, "address", OTHER_MAC)


def set_down() -> None:
    ip("link", "set", "tmp0", "down")


def set_down_and_up() -> None:
    set_down()
    ip("link", "set", "tmp0", "up")


def flap_carrier() -> None:
    """As when the cable is pulled and plugged in again: the port at the other end of eth0."""
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "up")


def delete_address(version: int) -> None:
    ip("address", "delete", NETWORK[version], "dev", "tmp0")


def delete_address_and_set_it(version: int) -> None:
    delete_address(version)
    ip("address", "add", NETWORK[version], "dev", "tmp0")


def delete_link(version: int) -> None:
    ip("link", "delete", "tmp0")


CHANGES: Final[dict[str, Callable[[int], None]]] = {
    "another MAC": lambda version: set_mac(),
    "link down": lambda version: set_down(),
    "link down and up": lambda version: set_down_and_up(),
    "carrier lost for a moment": lambda version: flap_carrier(),
    "address deleted": delete_address,
    "address deleted and set by another process": delete_address_and_set_it,
    "link deleted": delete_link,
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("change", sorted(CHANGES))
async def test_each_repair_and_change_is_announced(lan: Lan, version: int, change: str) -> None:
    if version == 6 and not has_ipv6():
        pytest.skip("the kernel has no IPv6")
    async with running(lan, version) as node:
        await node.announces_after(lambda: CHANGES[change](version))


async def test_carrier_that_was_lost_for_longer_is_announced_when_it_is_back(lan: Lan) -> None:
    async with running(lan) as node:
        ip("link", "set", "port0", "down")
        await until(lambda: "NO-CARRIER" in ip("link", "show", "tmp0"), "tmp0 has no carrier")
        await node.announces_after(lambda: ip("link", "set", "port0", "up"))


async def test_carrier_that_was_lost_too_briefly_for_the_overlay_link_to_lose_it_is_announced(lan: Lan) -> None:
    """The kernel passes on a change of a network card's carrier once a second (net/core/link_watch.c).

    For this it takes a link for a network card if its index is that of its peer.
    """
    other = Namespace("other")
    lan.others.append(other)
    ip("link", "delete", "eth0")
    peer = ("peer", "name", "eth0", "index", "99", "netns", str(other.pid))
    ip("link", "add", "eth0", "index", "99", "address", MACHINE_MAC, "type", "veth", *peer)
    ip("link", "set", "eth0", "up")
    other.ip("address", "add", "192.168.100.9/24", "dev", "eth0")
    other.ip("link", "set", "eth0", "up")
    ip("link", "add", "tmp0", "link", "eth0", "type", "macvlan", "mode", "bridge")

    def flap() -> None:
        other.ip("link", "set", "eth0", "down")
        other.ip("link", "set", "eth0", "up")

    async with running(lan, other=other) as node:
        missed = 0
        for _ in range(3):
            seen, lost = carrier_changes("tmp0"), carrier_changes("eth0")
            await node.announces_after(flap)
            missed += carrier_changes("tmp0") == seen and carrier_changes("eth0") > lost
        assert missed, "tmp0 lost its carrier each time: the test does not show what it is for"


async def test_deleted_parent_is_announced_when_it_is_back(lan: Lan) -> None:
    async with running(lan) as node:
        ip("link", "delete", "eth0")
        await node.announces_after(lambda: make_port("eth0", "port0", MACHINE_MAC))


async def test_adopted_link_that_comes_back_with_another_mac_is_announced(lan: Lan) -> None:
    async with running(lan, adopted=True) as node:
        assert link_mac("tmp0") == OVERLAY_MAC
        await node.announces_after(lambda: delete_link(4))
        assert link_mac("tmp0") not in ("", OVERLAY_MAC)


@pytest.mark.parametrize("change", ["another MAC", "carrier", "master"])
async def test_changes_of_the_interface_are_announced_in_mode_address(lan: Lan, change: str) -> None:
    ip("link", "add", "bridge1", "type", "bridge")
    changes: dict[str, Callable[[], object]] = {
        "another MAC": lambda: set_mac("eth0"),
        "carrier": flap_carrier,
        "master": lambda: ip("link", "set", "eth0", "master", "bridge1"),
    }
    async with running(lan, mode="address") as node:
        await node.announces_after(changes[change], "eth0")
