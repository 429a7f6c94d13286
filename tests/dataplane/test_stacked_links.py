"""Parents that are macvlans or VLANs themselves, with the real kernel, and packets to a gateway on another machine."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from lab.net.namespaces import Namespace
from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel_actions import AddLink, KernelPlan, SetMtu
from overlay_net.model.overlay import NodeOverlay
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import NODE_IP, OVERLAY, USUAL, Edge, edge, make_config, netns, observed_source
from tests.fakes.netns import ip, try_ip

__all__ = ["edge", "netns"]


@pytest.fixture
async def kernel(netns: None) -> AsyncIterator[Kernel]:
    async with Kernel(MARK) as opened:
        yield opened


async def converge(kernel: Kernel, overlay: NodeOverlay | None, config: LinkConfig) -> KernelPlan:
    """Converge, and create the overlay link once at most."""
    created = 0
    for _ in range(6):
        observed = await kernel.observe(["tmp0"])
        plan = plan_kernel(desired_state(overlay, desired_link(config, observed, MARK)), observed, MARK)
        if not plan.actions:
            return plan
        created += sum(isinstance(action, AddLink) for action in plan.actions)
        assert created <= 1, "the link is created again and again"
        for action in plan.actions:
            await kernel.apply(action)
    raise AssertionError(f"does not converge: {plan}")


def shown(*arguments: str) -> Any:
    return json.loads(ip("-d", "-j", *arguments))


def add_link(*arguments: str) -> None:
    """Add a link on which the node has its private address; skips if the kernel has no such kind of link."""
    refused = try_ip("link", "add", *arguments)
    if refused:
        pytest.skip(f"ip link add {' '.join(arguments)}: {refused.strip()}")


@pytest.mark.parametrize(
    "links",
    [
        [("mac0", "link", "eth0", "type", "macvlan", "mode", "bridge")],
        [("mac1", "link", "eth0", "type", "macvlan", "mode", "bridge"), ("mac0", "link", "mac1", "type", "macvlan")],
        [("mac0", "link", "eth0", "type", "macvtap", "mode", "bridge")],
    ],
    ids=["macvlan", "macvlan on macvlan", "macvtap"],
)
async def test_packets_use_an_overlay_link_on_a_macvlan(
    edge: Edge, kernel: Kernel, links: list[tuple[str, ...]]
) -> None:
    ip("address", "flush", "dev", "eth0")
    for link in links:
        add_link(*link)
    ip("address", "add", f"{NODE_IP}/26", "dev", "mac0")
    ip("link", "set", "mac0", "up")
    config = make_config(parent="mac0")
    plan = await converge(kernel, USUAL, config)
    assert not plan.problems
    assert observed_source() == str(OVERLAY.ip)
    assert desired_link(config, await kernel.observe(), MARK).parent == "mac0"
    await converge(kernel, None, config)
    assert "tmp0" not in ip("link")


async def test_node_in_a_container_whose_interface_is_a_macvlan_of_its_host(kernel: Kernel) -> None:
    with closing(Namespace("host")) as host:
        host.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
        host.ip("link", "add", "c0", "link", "up0", "type", "macvlan", "mode", "bridge")
        host.ip("link", "set", "c0", "netns", str(os.getpid()), "name", "eth0")
        for each in ("up0", "up1"):
            host.ip("link", "set", each, "up")
        index = json.loads(host.ip("-j", "link", "show", "up0"))[0]["ifindex"]
        # A link of this namespace with the index of the parent's lower link.
        ip("link", "add", "other0", "index", str(index), "type", "veth", "peer", "name", "other1")
        ip("address", "add", f"{NODE_IP}/26", "dev", "eth0")
        ip("link", "set", "eth0", "up")
        config = make_config(parent="eth0,other0")
        plan = await converge(kernel, USUAL, config)
        assert not plan.problems
        (tmp0,) = [each for each in (await kernel.observe()).links if each.name == "tmp0"]
        (eth0,) = [each for each in (await kernel.observe()).links if each.name == "eth0"]
        assert (tmp0.parent, tmp0.outside) == (None, eth0.outside)
        # Moved to a link of this namespace, and back.
        await converge(kernel, USUAL, make_config(parent="other0"))
        assert shown("link", "show", "tmp0")[0]["link"] == "other0"
        await converge(kernel, USUAL, config)


async def test_packets_use_an_overlay_link_on_a_vlan_of_a_bond(edge: Edge, kernel: Kernel) -> None:
    add_link("bond9", "type", "bond", "mode", "active-backup")
    ip("address", "flush", "dev", "eth0")
    ip("link", "set", "eth0", "down")
    ip("link", "set", "eth0", "master", "bond9")
    ip("link", "set", "bond9", "up")
    add_link("bond9.7", "link", "bond9", "type", "vlan", "id", "7")
    ip("link", "set", "bond9.7", "up")
    edge.gateway.ip("link", "add", "inner.7", "link", "inner", "type", "vlan", "id", "7")
    edge.gateway.ip("address", "flush", "dev", "inner")
    edge.gateway.ip("address", "add", "192.168.100.1/24", "dev", "inner.7")
    edge.gateway.ip("link", "set", "inner.7", "up")
    await converge(kernel, USUAL, make_config(parent="bond9.7"))
    assert observed_source() == str(OVERLAY.ip)


@pytest.mark.parametrize("parent", ["private-network-of-rack-17", "private-*", "eno7,altname*,private-network*"])
async def test_interface_with_an_alternative_name(edge: Edge, kernel: Kernel, parent: str) -> None:
    refused = try_ip("link", "property", "add", "dev", "eth0", "altname", "private-network-of-rack-17")
    if refused:
        pytest.skip(f"the kernel has no alternative names of links: {refused.strip()}")
    ip("link", "property", "add", "dev", "eth0", "altname", "enp2s0")
    plan = await converge(kernel, USUAL, make_config(parent=parent))
    assert not plan.problems
    assert shown("link", "show", "tmp0")[0]["link"] == "eth0"
    assert observed_source() == str(OVERLAY.ip)


async def test_alternative_name_that_is_ours_is_reported(edge: Edge, kernel: Kernel) -> None:
    refused = try_ip("link", "property", "add", "dev", "eth0", "altname", "tmp0")
    if refused:
        pytest.skip(f"the kernel has no alternative names of links: {refused.strip()}")
    plan = await converge(kernel, USUAL, make_config())
    assert "LinkNameTaken" in {problem.reason for problem in plan.problems}
    with pytest.raises(KernelError, match="no link tmp0"):
        await kernel.apply(SetMtu("tmp0", 1400))


async def test_port_of_a_bridge_is_refused_and_the_message_names_the_bridge(edge: Edge, kernel: Kernel) -> None:
    add_link("br0", "type", "bridge")
    ip("link", "set", "eth0", "master", "br0")
    ip("link", "set", "br0", "up")
    plan = await converge(kernel, USUAL, make_config())
    assert [each.reason for each in plan.problems if each.route is None] == ["ParentInUse"]
    assert "set interface to br0" in plan.problems[0].message
    await converge(kernel, USUAL, make_config(parent="br0"))
    assert observed_source() == str(OVERLAY.ip)
    ip("link", "delete", "br0")


@pytest.mark.parametrize("parent", ["eth0", "mac0"])
async def test_interface_of_a_macvlan_in_passthru_mode_is_refused(edge: Edge, kernel: Kernel, parent: str) -> None:
    add_link("mac0", "link", "eth0", "type", "macvlan", "mode", "passthru")
    plan = await converge(kernel, USUAL, make_config(parent=parent))
    assert [each.reason for each in plan.problems if each.route is None] == ["ParentInUse"]
    assert "mac0 is a macvlan in passthru mode" in plan.problems[0].message
    ip("link", "delete", "mac0")
    await converge(kernel, USUAL, make_config())
    assert observed_source() == str(OVERLAY.ip)
