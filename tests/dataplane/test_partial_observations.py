"""An observation that reads only what was notified finds what one of everything finds, whatever has changed."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor, interfaces
from overlay_net.agent.route_follower import RouteFollower
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import ByName
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.kernel import Observed
from overlay_net.model.kernel_actions import AddAddress
from overlay_net.model.kernel_changes import KernelChanges
from overlay_net.model.overlay import NodeOverlay
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import OVERLAY, converge, desired, route
from tests.dataplane.routes import index
from tests.fakes.background import background
from tests.fakes.netns import ip, try_ip
from tests.fakes.until import until

STATE = desired(route("192.168.0.0/24"), route("172.16.0.0/16"))
NODE = NodeOverlay.parse(
    {
        "metadata": {"name": "n1"},
        "spec": {
            "routes": [
                {"subnet": subnet, "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}]}
                for subnet in ("192.168.0.0/24", "172.16.0.0/16", "fd01::/64")
            ]
        },
        "status": {"ipAddr": str(OVERLAY)},
    }
)
CHANGES = (
    "link set tmp0 down",
    "link set tmp0 up",
    "link set tmp0 mtu 1300",
    "link set tmp0 alias other",
    "link set tmp0 alias overlay-net",
    "link set eth0 down",
    "link set eth0 up",
    "link property add dev eth0 altname uplink",
    "link set eth0 address 52:54:00:00:00:09",
    "link delete tmp0",
    "link add tmp0 link eth0 type macvlan mode bridge",
    "link add tmp0 type bridge",
    "link add pod0 type veth peer name pod1",
    "link add red0 type vrf table 77",
    "link set red0 up",
    "link set tmp0 master red0",
    "link set tmp0 nomaster",
    "link set pod0 up",
    "link set pod1 up",
    "link set pod0 name renamed0",
    "link delete pod0",
    "link delete renamed0",
    "address add 192.168.100.4/24 dev tmp0",
    "address add 192.168.100.4/24 dev tmp0 proto 117 noprefixroute",
    "address add 192.168.100.9/24 dev eth0",
    "address add 192.168.100.4/32 dev lo",
    "address delete 192.168.100.4/24 dev tmp0",
    "address delete 192.168.100.9/24 dev eth0",
    "address delete 192.168.100.4/32 dev lo",
    "address change 192.168.100.4/24 dev tmp0 metric 7",
    "address flush dev tmp0",
    "address add fd00:7::2/64 dev eth0 nodad",
    "address change fd00:7::2/64 dev eth0 nodad preferred_lft 0",
    "address delete fd00:7::2/64 dev eth0",
    "address add 10.96.0.1/32 dev lo",
    "address add 10.96.0.2/32 dev lo",
    "address delete 10.96.0.1/32 dev lo",
    "address add 172.30.0.1 peer 172.30.0.2 dev eth0",
    "route delete 192.168.100.0/24",
    "route add 192.168.100.0/24 dev tmp0 proto kernel src 192.168.100.4",
    "route add 192.168.100.0/24 dev eth0 proto kernel metric 5",
    "route replace 192.168.100.0/24 dev eth0 proto kernel",
    "route replace 192.168.100.0/24 via 10.176.162.129 proto bird",
    "route replace 192.168.100.0/24 via 10.176.162.129 proto 117",
    "route add 192.168.0.0/24 dev eth0 proto kernel metric 9",
    "route add 192.168.0.0/24 dev eth0 proto kernel",
    "route replace 192.168.0.0/24 via 192.168.100.1 dev tmp0 proto 117",
    "route delete 192.168.0.0/24",
    "route flush proto kernel",
    "route flush table main",
    "-6 route add fd01::/64 dev eth0 proto kernel",
    "-6 route replace fd01::/64 dev eth0 proto 117",
    "-6 route delete fd01::/64",
    "route add 172.16.0.0/16 dev eth0 proto static",
    "rule add from 192.168.100.4 lookup 77 priority 7 protocol 117",
    "rule delete priority 7",
)


class Watcher:
    """Observes whenever the monitor wakes it, as the agent does, and not otherwise."""

    def __init__(self, kernel: Kernel, monitor: Monitor, woken: asyncio.Event) -> None:
        self._kernel = kernel
        self._woken = woken
        self.follower = RouteFollower(LinkConfig(ByName(("eth0",))), monitor.follow)
        self.observed = Observed()
        self.read: list[KernelChanges] = []

    async def observe(self) -> Observed:
        self.follower.follow(NODE)
        changes = self.follower.observing()
        self.observed = await self._kernel.observe(LINKS, awaited=self.follower.awaited, changes=changes)
        self.follower.observed()
        self.read.append(changes)
        return self.observed

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self.observe()


@asynccontextmanager
async def watching(kernel: Kernel, monitor: Monitor, woken: asyncio.Event) -> AsyncIterator[Watcher]:
    watcher = Watcher(kernel, monitor, woken)
    async with background(monitor.run(), watcher.run()):
        await until(lambda: watcher.read and not woken.is_set(), "the monitor listens")
        yield watcher


SILENT = {
    "the link is down": "link set tmp0 down",
    "the parent is down": "link set eth0 down",
    "the parent has no carrier": "link set peer0 down",
    "the link is deleted": "link delete tmp0",
    "the link gets another table": "link set tmp0 master red0",
    "the address is deleted": "address delete 192.168.100.4/24 dev tmp0",
    "the last address is deleted": "address flush dev tmp0",
    "the source of a route is deleted": "address delete 10.96.0.1/32 dev eth0",
    "a route of another process replaces it": "route replace 192.168.100.0/24 via 10.176.162.129 proto bird",
    "a route with our protocol replaces it": "route replace 192.168.100.0/24 via 10.176.162.129 proto 117",
}
"""Changes with which the kernel deletes routes, not all of them with a notification."""


def disable_ipv6(*links: str) -> None:
    """The kernel notifies of each IPv6 route."""
    for link in links:
        Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("1", encoding="ascii")


def facts(observed: Observed) -> tuple[object, ...]:
    """All that was observed, with what comparisons leave out."""
    addresses = sorted(observed.addresses, key=lambda each: (each.link, each.interface.version))
    set_at = [each.set_at for each in addresses]
    return observed.links, addresses, set_at, sorted(observed.routes, key=repr), observed.rules, observed.sysctls


@pytest.fixture(autouse=True)
def links_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a node with hundreds of addresses."""
    monkeypatch.setattr(interfaces, "ADDRESSES_IN_TIME", 0)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_changes_is_found_without_reading_everything(
    eth0: None, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not seed:
        monkeypatch.undo()
    chance, woken = random.Random(seed), asyncio.Event()
    monitor = Monitor(MARK.protocol, woken.set)
    marker = cycle(("blackhole", "unreachable"))
    async with Kernel(MARK, opened=monitor.ignore) as kernel, Kernel(MARK) as other:
        await converge(other, STATE)
        async with watching(kernel, monitor, woken) as watcher:

            async def full() -> tuple[object, ...]:
                return facts(await other.observe(LINKS, awaited=watcher.follower.awaited))

            async def is_found() -> bool:
                return facts(watcher.observed) == await full()

            for _ in range(60):
                change = chance.choice(CHANGES)
                try_ip(*change.split())
                # Some changes are no reason for an observation, but the next one must know of them.
                ip("route", "replace", next(marker), "198.18.0.0/15", "proto", "117", "metric", "7")
                async with asyncio.timeout(10):
                    while not await is_found():
                        await asyncio.sleep(0.005)
            assert sum(not each.everything for each in watcher.read) >= 60


@pytest.mark.parametrize("change", SILENT.values(), ids=SILENT)
async def test_routes_that_the_kernel_deletes_silently_are_missed(eth0: None, change: str) -> None:
    woken = asyncio.Event()
    monitor = Monitor(MARK.protocol, woken.set)
    async with Kernel(MARK, opened=monitor.ignore) as kernel, Kernel(MARK) as other:
        if try_ip("link", "add", "red0", "type", "vrf", "table", "77") and "red0" in change:
            pytest.skip("the kernel has no VRFs")
        await converge(other, STATE)
        disable_ipv6("tmp0", "eth0")
        ip("address", "add", "10.96.0.1/32", "dev", "eth0")
        ip(*["route", "add", "192.168.100.0/24", "dev", "eth0", "proto", "kernel", "src", "10.96.0.1", "metric", "3"])
        async with watching(kernel, monitor, woken) as watcher:
            before = watcher.observed
            ip(*change.split())

            async def is_found() -> bool:
                full = await other.observe(LINKS, awaited=watcher.follower.awaited)
                return watcher.observed is not before and facts(watcher.observed) == facts(full)

            async with asyncio.timeout(10):
                while not await is_found():
                    await asyncio.sleep(0.005)
            assert not watcher.read[-1].everything


async def test_a_new_address_of_our_own_is_observed_whatever_was_notified_meanwhile(eth0: None) -> None:
    woken = asyncio.Event()
    monitor = Monitor(MARK.protocol, woken.set)
    async with Kernel(MARK, opened=monitor.ignore) as kernel:
        await converge(kernel, STATE)
        async with watching(kernel, monitor, woken) as watcher:
            ip("address", "flush", "dev", "tmp0")
            await until(lambda: not watcher.observed.address_index.on(index("tmp0")), "it is gone")
            watcher.follower.changing()
            for action in plan_kernel(STATE, watcher.observed, MARK).actions:
                await kernel.apply(action)
            ip("route", "add", "blackhole", "198.18.0.0/15", "proto", "117")
            observed = await watcher.observe()
            assert not any(isinstance(each, AddAddress) for each in plan_kernel(STATE, observed, MARK).actions)


async def test_the_addresses_of_other_links_are_the_same_objects_as_before(kernel: Kernel) -> None:
    ip("address", "add", "10.96.0.1/32", "dev", "lo")
    before = await kernel.observe(LINKS)
    ip("address", "add", "10.176.162.152/32", "dev", "eth0")
    eth0 = KernelChanges(addresses=frozenset({index("eth0")}), is_reason=True)
    after = await kernel.observe(LINKS, changes=eth0)
    found = {str(each.interface): each for each in after.addresses}
    assert found.keys() == {*(str(each.interface) for each in before.addresses), "10.176.162.152/32"}
    assert all(found[str(each.interface)] is each for each in before.addresses if each.link != index("eth0"))
    assert (await kernel.observe(LINKS, changes=KernelChanges(is_reason=True))).addresses is after.addresses
    assert (await kernel.observe(LINKS)).addresses == after.addresses


async def test_the_addresses_of_a_link_that_is_gone_are_gone(kernel: Kernel) -> None:
    ip("link", "add", "pod0", "type", "veth", "peer", "name", "pod1")
    ip("address", "add", "10.96.0.1/32", "dev", "pod0")
    pod = index("pod0")
    assert (await kernel.observe()).address_index.on(pod)
    ip("link", "delete", "pod0")
    gone = KernelChanges(links=True, addresses=frozenset({pod}), is_reason=True)
    observed = await kernel.observe(changes=gone)
    assert not observed.address_index.on(pod)
    assert observed.find_link("pod0") is None
