"""All link modes and interface selectors with the real kernel, and packets to a gateway on another machine."""

import json
from collections.abc import AsyncIterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state, link_config_for
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.kernel_actions import AddAddress, DeleteAddress, KernelPlan
from overlay_net.model.overlay import NodeOverlay
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.edge import (
    MAC,
    NODE_IP,
    OVERLAY,
    ROUTE,
    USUAL,
    Edge,
    edge,
    make_config,
    netns,
    node_overlay_ip,
    observed_source,
    require,
)
from tests.fakes.netns import ip, sysctl

__all__ = ["edge", "netns"]


@pytest.fixture
async def kernel(edge: Edge) -> AsyncIterator[Kernel]:
    async with Kernel(MARK) as opened:
        yield opened


async def converge(kernel: Kernel, overlay: NodeOverlay | None, config: LinkConfig) -> KernelPlan:
    for _ in range(6):
        observed = await kernel.observe(LINKS)
        link = desired_link(link_config_for(overlay, config), observed, MARK)
        desired = desired_state(overlay, link, config.fallback)
        plan = plan_kernel(desired, observed, MARK)
        if not plan.actions:
            return plan
        for action in plan.actions:
            await kernel.apply(action)
    raise AssertionError(f"does not converge: {plan}")


def shown(*arguments: str) -> Any:
    return json.loads(ip("-d", "-j", *arguments))


@pytest.mark.parametrize(
    ("mode", "macvlan_mode"),
    [("macvlan", "bridge"), ("macvlan", "private"), ("macvlan", "vepa"), ("ipvlan", "bridge")],
)
async def test_packets_use_the_overlay_link(edge: Edge, kernel: Kernel, mode: str, macvlan_mode: str) -> None:
    require(mode)
    plan = await converge(kernel, USUAL, make_config(mode, macvlan_mode=macvlan_mode))
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
    plan = await converge(kernel, USUAL, make_config("address"))
    assert not plan.problems
    assert "tmp0" not in ip("link")
    assert observed_source() == str(OVERLAY.ip)
    assert every_sysctl("eth0") == before[2]
    await converge(kernel, None, make_config("address"))
    assert (ip("-j", "address"), ip("-j", "route", "show", "table", "all")) == before[:2]


async def test_packets_of_a_node_with_routes_only_use_the_node_ip(edge: Edge, kernel: Kernel) -> None:
    found = NodeOverlay.parse(node_overlay_ip(None, {"subnet": "192.168.0.0/24", "staticRoute": "r"}))
    plan = await converge(kernel, found, make_config("none"))
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
        found = NodeOverlay.parse(node_overlay_ip(None, {**ROUTE, "gateways": []})) if mode == "none" else USUAL
        await converge(kernel, found, make_config(mode))
        # The address has another MAC now; announcements are not under test here.
        edge.gateway.ip("neighbour", "flush", "all")
        assert observed_source() == (NODE_IP if mode == "none" else str(OVERLAY.ip)), mode
        assert ("tmp0" in ip("link")) == (mode == "macvlan")
        on_eth0 = [each["local"] for each in shown("-4", "address", "show", "eth0")[0]["addr_info"]]
        assert on_eth0 == [NODE_IP, *([str(OVERLAY.ip)] if mode == "address" else [])]


async def test_re_created_link_has_the_same_mac_and_an_existing_link_keeps_its_own(edge: Edge, kernel: Kernel) -> None:
    require("macvlan")
    await converge(kernel, USUAL, make_config())
    ip("link", "delete", "tmp0")
    await converge(kernel, USUAL, make_config())
    assert shown("link", "show", "tmp0")[0]["address"] == MAC
    assert observed_source() == str(OVERLAY.ip), "the gateway's neighbour cache is still valid"
    ip("link", "set", "tmp0", "address", "02:11:22:33:44:55")
    assert not (await converge(kernel, USUAL, make_config(macvlan_mode="private"))).problems
    assert shown("link", "show", "tmp0")[0]["address"] == "02:11:22:33:44:55"


async def test_mtu_follows_the_parent_down_and_up(edge: Edge, kernel: Kernel) -> None:
    require("macvlan")
    ip("link", "set", "eth0", "mtu", "1400")
    await converge(kernel, USUAL, make_config())
    for mtu in (1400, 1300, 1500):
        ip("link", "set", "eth0", "mtu", str(mtu))
        await converge(kernel, USUAL, make_config())
        assert shown("link", "show", "tmp0")[0]["mtu"] == mtu


async def test_router_advertisements_do_not_configure_the_overlay_link(edge: Edge, kernel: Kernel) -> None:
    require("macvlan")
    if not every_sysctl("lo", "ipv6"):
        pytest.skip("the kernel has no IPv6")
    before = every_sysctl("eth0"), every_sysctl("all"), every_sysctl("default")
    await converge(kernel, USUAL, make_config())
    own = every_sysctl("tmp0", "ipv6")
    assert [own[f"/proc/sys/net/ipv6/conf/tmp0/{key}"] for key in ("accept_ra", "accept_dad")] == ["0", "1"]
    after = every_sysctl("eth0"), every_sysctl("all"), every_sysctl("default")
    changed = [key for old, new in zip(before, after, strict=True) for key in old if old[key] != new[key]]
    assert sorted(changed) == [f"/proc/sys/net/ipv4/conf/eth0/{key}" for key in ("arp_announce", "arp_ignore")]
    assert (sysctl("eth0", "arp_announce"), sysctl("eth0", "arp_ignore")) == ("1", "1")


async def test_shared_address_stays_as_linux_deletes_secondaries_with_it(edge: Edge, kernel: Kernel) -> None:
    """The kernel behaviour behind AddressShared; foreign addresses are never lost."""
    promote_secondaries(False)
    first, second = ip_interface("192.168.7.4/24"), ip_interface("192.168.7.5/24")
    for each in (first, second):
        await kernel.apply(AddAddress("eth0", each))
    await kernel.apply(DeleteAddress("eth0", first))
    assert "192.168.7." not in ip("address", "show", "eth0"), "both are deleted"

    await converge(kernel, USUAL, make_config("address"))
    ip("address", "add", "192.168.100.77/24", "dev", "eth0")
    plan = await converge(kernel, None, make_config("address"))
    assert [problem.reason for problem in plan.problems] == ["AddressShared"]
    assert "192.168.100.77/24" in ip("address", "show", "eth0")
    promote_secondaries(True)
    await converge(kernel, None, make_config("address"))
    assert "192.168.100.77/24" in ip("address", "show", "eth0")
    assert "192.168.100.4/24" not in ip("address", "show", "eth0")


@pytest.mark.parametrize("parent", ["eth0", "bond*,eth*", "route:10.1.2.3", "route:10.176.162.129", "node-ip"])
async def test_each_interface_selector_finds_the_parent(edge: Edge, kernel: Kernel, parent: str) -> None:
    require("macvlan")
    ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
    await converge(kernel, USUAL, make_config(parent=parent))
    assert shown("link", "show", "tmp0")[0]["link"] == "eth0"
    # The result is the same with our own link, address and routes in place.
    await converge(kernel, USUAL, make_config(parent=parent))
    assert observed_source() == str(OVERLAY.ip)
