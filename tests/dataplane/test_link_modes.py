"""All link modes and interface selectors with the real kernel, and packets to a gateway on another machine."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from lab.net.namespaces import Namespace
from lab.net.traffic import PORT, serve
from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.agent.apply import NodeKernel
from overlay_net.agent.run import link_config
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state, stable_mac
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.conditions import find
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Observed
from overlay_net.model.kernel_actions import AddAddress, DeleteAddress, KernelPlan, RouteAction
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from overlay_net.settings import AgentSettings
from tests.dataplane.conftest import LINKS, MARK
from tests.fakes.agent import make_agent
from tests.fakes.netns import ip, netns, sysctl, try_ip

__all__ = ["netns"]

OVERLAY = ip_interface("192.168.100.4/24")
ON_PREMISE = "192.168.0.10"
NODE_IP = "10.176.162.151"
MAC = stable_mac("n1", "tmp0")
ROUTE = {"subnet": "192.168.0.0/24", "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}]}


class Edge:
    """eth0 of this machine, the gateway at its other end, and the on-premise host behind the gateway."""

    def __init__(self, log: Path) -> None:
        self.gateway = Namespace("gateway")
        self.add_interface()
        self.gateway.ip("address", "add", f"{ON_PREMISE}/32", "dev", "lo")
        self._server = serve(self.gateway, log)

    def add_interface(self) -> None:
        peer = ["peer", "name", "inner", "netns", str(self.gateway.pid)]
        ip("link", "add", "eth0", "address", "52:54:00:00:00:01", "type", "veth", *peer)
        ip("address", "add", f"{NODE_IP}/26", "dev", "eth0")
        ip("link", "set", "eth0", "up")
        self.gateway.ip("address", "add", "10.176.162.129/26", "dev", "inner")
        self.gateway.ip("address", "add", "192.168.100.1/24", "dev", "inner")
        self.gateway.ip("link", "set", "inner", "up")
        ip("route", "add", "10.0.0.0/8", "via", "10.176.162.129")

    def close(self) -> None:
        self._server.kill9()
        self.gateway.close()


@pytest.fixture
def edge(netns: None, tmp_path: Path) -> Iterator[Edge]:
    refused = try_ip("link", "add", "try0", "type", "veth", "peer", "name", "try1")
    if refused:
        pytest.skip(f"the kernel has no veth links: {refused.strip()}")
    ip("link", "delete", "try0")
    edge = Edge(tmp_path / "traffic.log")
    try:
        yield edge
    finally:
        edge.close()


@pytest.fixture
async def kernel(edge: Edge) -> AsyncIterator[Kernel]:
    async with Kernel(MARK) as opened:
        yield opened


def require(kind: str) -> None:
    """Skips where the kernel lacks that kind of link, and names it."""
    refused = try_ip("link", "add", "try0", "link", "eth0", "type", kind)
    if refused:
        pytest.skip(f"the kernel has no {kind} links: {refused.strip()}")
    ip("link", "delete", "try0")


def rules(mode: str = "macvlan", parent: str = "eth0", macvlan_mode: str = "bridge") -> LinkConfig:
    """The LinkConfig of these settings."""
    environment = {"node_name": "n1", "node_ip": NODE_IP, "interface": parent, "link_mode": mode}
    return link_config(AgentSettings.model_validate(environment | {"macvlan_mode": macvlan_mode}))


def raw(address: str | None = str(OVERLAY), *routes: JsonObject) -> JsonObject:
    return {
        "metadata": {"name": "n1", "uid": "u", "resourceVersion": "7", "generation": 1},
        "spec": {"routes": list(routes)},
        "status": {"ipAddr": address} if address else {},
    }


USUAL = NodeOverlay.parse(raw(str(OVERLAY), ROUTE))


async def converge(kernel: Kernel, found: NodeOverlay | None, how: LinkConfig) -> KernelPlan:
    for _ in range(6):
        observed = await kernel.observe(LINKS)
        desired = desired_state(found, desired_link(how, observed, MARK), how.fallback)
        plan = plan_kernel(desired, observed, MARK)
        if not plan.actions:
            return plan
        for action in plan.actions:
            await kernel.apply(action)
    raise AssertionError(f"does not converge: {plan}")


def shown(*arguments: str) -> Any:
    return json.loads(ip("-d", "-j", *arguments))


def observed_source() -> str:
    """The source address of a TCP connection from here as the on-premise host observed it."""
    with socket.create_connection((ON_PREMISE, PORT), timeout=5) as connection:
        return connection.recv(100).decode().strip()


@pytest.mark.parametrize(
    ("mode", "macvlan_mode"),
    [("macvlan", "bridge"), ("macvlan", "private"), ("macvlan", "vepa"), ("ipvlan", "bridge")],
)
async def test_packets_use_the_overlay_link(edge: Edge, kernel: Kernel, mode: str, macvlan_mode: str) -> None:
    require(mode)
    plan = await converge(kernel, USUAL, rules(mode, macvlan_mode=macvlan_mode))
    assert not plan.problems
    (link,) = shown("link", "show", "tmp0")
    assert (link["linkinfo"]["info_kind"], link["link"], link["ifalias"]) == (mode, "eth0", "overlay-net")
    if mode == "macvlan":
        assert (link["linkinfo"]["info_data"]["mode"], link["address"]) == (macvlan_mode, MAC)
    else:
        assert link["linkinfo"]["info_data"]["mode"] == "l2"
    assert observed_source() == str(OVERLAY.ip)


async def test_packets_use_the_overlay_address_on_the_interface_itself(edge: Edge, kernel: Kernel) -> None:
    ip("address", "add", "172.31.9.1/32", "dev", "eth0")
    before = (ip("-j", "address"), ip("-j", "route", "show", "table", "all"), every_sysctl("eth0"))
    plan = await converge(kernel, USUAL, rules("address"))
    assert not plan.problems
    assert "tmp0" not in ip("link")
    assert observed_source() == str(OVERLAY.ip)
    assert every_sysctl("eth0") == before[2]
    await converge(kernel, None, rules("address"))
    assert (ip("-j", "address"), ip("-j", "route", "show", "table", "all")) == before[:2]


async def test_packets_of_a_node_with_routes_only_use_the_node_ip(edge: Edge, kernel: Kernel) -> None:
    found = NodeOverlay.parse(raw(None, {"subnet": "192.168.0.0/24", "staticRoute": "r"}))
    plan = await converge(kernel, found, rules("none"))
    assert not plan.problems
    (route,) = shown("route", "show", "192.168.0.0/24")
    assert (route["gateway"], route["dev"], route["protocol"]) == ("10.176.162.129", "eth0", "117")
    assert observed_source() == NODE_IP


def every_sysctl(link: str, *families: str) -> dict[str, str]:
    return {
        str(file): file.read_text().strip()
        for family in families or ("ipv4", "ipv6")
        for file in Path(f"/proc/sys/net/{family}/conf/{link}").glob("*")
        # Cannot be read before it is set.
        if file.name != "stable_secret"
    }


def promote_secondaries(yes: bool) -> None:
    Path("/proc/sys/net/ipv4/conf/eth0/promote_secondaries").write_text(str(int(yes)))


async def test_change_from_each_mode_to_each_other(edge: Edge, kernel: Kernel) -> None:
    require("macvlan")
    for mode in ("macvlan", "address", "macvlan", "none", "address", "none", "macvlan"):
        found = NodeOverlay.parse(raw(None, {**ROUTE, "gateways": []})) if mode == "none" else USUAL
        await converge(kernel, found, rules(mode))
        # The address has another MAC now; announcements are not under test here.
        edge.gateway.ip("neighbour", "flush", "all")
        assert observed_source() == (NODE_IP if mode == "none" else str(OVERLAY.ip)), mode
        assert ("tmp0" in ip("link")) == (mode == "macvlan")
        on_eth0 = [each["local"] for each in shown("-4", "address", "show", "eth0")[0]["addr_info"]]
        assert on_eth0 == [NODE_IP, *([str(OVERLAY.ip)] if mode == "address" else [])]


async def test_re_created_link_has_the_same_mac_and_an_existing_link_keeps_its_own(edge: Edge, kernel: Kernel) -> None:
    require("macvlan")
    await converge(kernel, USUAL, rules())
    ip("link", "delete", "tmp0")
    await converge(kernel, USUAL, rules())
    assert shown("link", "show", "tmp0")[0]["address"] == MAC
    assert observed_source() == str(OVERLAY.ip), "the gateway's neighbour cache is still valid"
    ip("link", "set", "tmp0", "address", "02:11:22:33:44:55")
    assert not (await converge(kernel, USUAL, rules(macvlan_mode="private"))).problems
    assert shown("link", "show", "tmp0")[0]["address"] == "02:11:22:33:44:55"


async def test_mtu_follows_the_parent_down_and_up(edge: Edge, kernel: Kernel) -> None:
    require("macvlan")
    ip("link", "set", "eth0", "mtu", "1400")
    await converge(kernel, USUAL, rules())
    for mtu in (1400, 1300, 1500):
        ip("link", "set", "eth0", "mtu", str(mtu))
        await converge(kernel, USUAL, rules())
        assert shown("link", "show", "tmp0")[0]["mtu"] == mtu


async def test_router_advertisements_do_not_configure_the_overlay_link(edge: Edge, kernel: Kernel) -> None:
    require("macvlan")
    if not every_sysctl("lo", "ipv6"):
        pytest.skip("the kernel has no IPv6")
    before = every_sysctl("eth0"), every_sysctl("all"), every_sysctl("default")
    await converge(kernel, USUAL, rules())
    own = every_sysctl("tmp0", "ipv6")
    assert [own[f"/proc/sys/net/ipv6/conf/tmp0/{key}"] for key in ("accept_ra", "accept_dad")] == ["0", "1"]
    after = every_sysctl("eth0"), every_sysctl("all"), every_sysctl("default")
    changed = [key for old, new in zip(before, after, strict=True) for key in old if old[key] != new[key]]
    assert changed == ["/proc/sys/net/ipv4/conf/eth0/arp_ignore"]
    assert sysctl("eth0", "arp_ignore") == "1"


async def test_shared_address_stays_as_linux_deletes_secondaries_with_it(edge: Edge, kernel: Kernel) -> None:
    """The kernel behaviour behind AddressShared; foreign addresses are never lost."""
    promote_secondaries(False)
    first, second = ip_interface("192.168.7.4/24"), ip_interface("192.168.7.5/24")
    for each in (first, second):
        await kernel.apply(AddAddress("eth0", each))
    await kernel.apply(DeleteAddress("eth0", first))
    assert "192.168.7." not in ip("address", "show", "eth0"), "both are deleted"

    await converge(kernel, USUAL, rules("address"))
    ip("address", "add", "192.168.100.77/24", "dev", "eth0")
    plan = await converge(kernel, None, rules("address"))
    assert [problem.reason for problem in plan.problems] == ["AddressShared"]
    assert "192.168.100.77/24" in ip("address", "show", "eth0")
    promote_secondaries(True)
    await converge(kernel, None, rules("address"))
    assert "192.168.100.77/24" in ip("address", "show", "eth0")
    assert "192.168.100.4/24" not in ip("address", "show", "eth0")


@pytest.mark.parametrize("parent", ["eth0", "bond*,eth*", "route:10.1.2.3", "route:10.176.162.129", "node-ip"])
async def test_each_interface_selector_finds_the_parent(edge: Edge, kernel: Kernel, parent: str) -> None:
    require("macvlan")
    ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
    await converge(kernel, USUAL, rules(parent=parent))
    assert shown("link", "show", "tmp0")[0]["link"] == "eth0"
    # The result is the same with our own link, address and routes in place.
    await converge(kernel, USUAL, rules(parent=parent))
    assert observed_source() == str(OVERLAY.ip)


class RecordingKernel:
    """The real kernel; records the links whose sysctls were observed last."""

    def __init__(self, kernel: Kernel) -> None:
        self.apply, self.apply_routes = kernel.apply, kernel.apply_routes
        self.sysctl_links: frozenset[str] = frozenset()
        self._kernel = kernel

    async def observe(self, sysctl_links: Collection[str]) -> Observed:
        self.sysctl_links = frozenset(sysctl_links)
        return await self._kernel.observe(sysctl_links)


@asynccontextmanager
async def running(kernel: NodeKernel, how: LinkConfig) -> AsyncIterator[list[Report]]:
    """The agent with its monitor and queue, but without an API server."""
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((raw(str(OVERLAY), ROUTE),), "7"))
    reports: list[Report] = []
    agent = make_agent(kernel, store, reports, how, MARK)
    queue = WorkQueue()
    monitor = Monitor(MARK.protocol, lambda: queue.add_after("n1", 0.005))
    tasks = [
        asyncio.create_task(monitor.run()),
        asyncio.create_task(run_workers("agent", queue, agent.reconcile, workers=1)),
    ]
    try:
        yield reports
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_configured(reports: list[Report], reason: str) -> None:
    async with asyncio.timeout(20):
        while True:
            found = find(reports[-1].conditions, "Configured") if reports else None
            if found is not None and found.reason == reason:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("mode", "parent"), [("macvlan", "eth0"), ("macvlan", "node-ip"), ("address", "eth7,eth*")])
async def test_everything_is_restored_when_a_deleted_parent_is_back(edge: Edge, mode: str, parent: str) -> None:
    require("macvlan")
    async with Kernel(MARK) as real, running(kernel := RecordingKernel(real), rules(mode, parent)) as reports:
        await until_configured(reports, "Configured")
        assert observed_source() == str(OVERLAY.ip)
        ip("link", "delete", "eth0")
        await until_configured(reports, "ParentMissing")
        assert "tmp0" not in ip("link")
        assert reports[-1].configured is None
        edge.add_interface()
        await until_configured(reports, "Configured")
        async with asyncio.timeout(20):
            while not find(reports[-1].conditions, "Ready").status:  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        assert observed_source() == str(OVERLAY.ip)
        assert kernel.sysctl_links == {"tmp0", "eth0"}, "the sysctls of the parent are observed"
        if mode == "macvlan":
            assert sysctl("eth0", "arp_ignore") == "1"


class OneAtATime:
    """The real kernel; changes only the first of several routes."""

    def __init__(self, kernel: Kernel) -> None:
        self.observe, self.apply = kernel.observe, kernel.apply
        self._kernel = kernel

    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        return await self._kernel.apply_routes(actions[:1])


async def test_unfinished_reconciliation_is_continued_before_the_next_resync(edge: Edge) -> None:
    require("macvlan")
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((raw(str(OVERLAY), *({**ROUTE, "subnet": f"172.16.{n}.0/24"} for n in range(6))),), "7"))
    reports: list[Report] = []
    async with Kernel(MARK) as kernel:
        how = rules("macvlan", "eth0")
        agent = make_agent(OneAtATime(kernel), store, reports, how, MARK)
        waits = [(await agent.reconcile("n1")).after for _ in range(3)]
    assert waits[0] == 1.0
    assert waits[-1] == 60.0
    assert reports[-1].routes_ready == 6
