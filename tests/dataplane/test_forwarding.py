"""Packets of pods through the overlay link, and what neighbours learn from its parent."""

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lab.net.namespaces import Namespace
from lab.net.traffic import Unreachable
from lab.net.traffic import observed_source as source_of
from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel.desired import desired_link, desired_state
from overlay_net.domain.kernel.plan import plan_kernel
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.edge import ON_PREMISE, OVERLAY, USUAL, Edge, edge, make_config, netns, require
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["edge", "netns"]

POD, POD_GATEWAY, PODS = "10.244.1.5", "10.244.1.1", "10.244.1.0/24"
GATEWAY_PRIVATE, PARENT_MAC = "10.176.162.129", "52:54:00:00:00:01"


@pytest.fixture
async def kernel(edge: Edge) -> AsyncIterator[Kernel]:
    require("macvlan")
    async with Kernel(MARK) as opened:
        yield opened


@pytest.fixture
def pod(edge: Edge) -> Iterator[Namespace]:
    """A pod behind a veth link of this node, to which the gateway has a route."""
    with Namespace("pod") as pod:
        ip("link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", str(pod.pid))
        ip("address", "add", f"{POD_GATEWAY}/24", "dev", "pod0")
        ip("link", "set", "pod0", "up")
        pod.ip("address", "add", f"{POD}/24", "dev", "eth0")
        pod.ip("link", "set", "eth0", "up")
        pod.ip("route", "add", "default", "via", POD_GATEWAY)
        edge.gateway.ip("route", "add", PODS, "via", str(OVERLAY.ip))
        yield pod


def set_sysctl(key: str, **links: int) -> None:
    for link, value in links.items():
        Path(f"/proc/sys/net/ipv4/conf/{link}/{key}").write_text(str(value))


async def converge(kernel: Kernel) -> None:
    config = make_config()
    for _ in range(6):
        observed = await kernel.observe(LINKS)
        plan = plan_kernel(desired_state(USUAL, desired_link(config, observed, MARK)), observed, MARK)
        if not plan.actions:
            return
        for action in plan.actions:
            await kernel.apply(action)
    raise AssertionError(f"does not converge: {plan}")


async def test_pods_use_the_overlay_where_only_named_links_forward(kernel: Kernel, pod: Namespace) -> None:
    set_sysctl("forwarding", all=0, default=0, eth0=1, pod0=1)
    await converge(kernel)
    assert source_of(pod, ON_PREMISE) == POD
    set_sysctl("forwarding", eth0=0)
    await converge(kernel)
    with pytest.raises(Unreachable):
        source_of(pod, ON_PREMISE, timeout=1)


async def test_node_is_no_arp_proxy_in_the_overlay_subnet(edge: Edge, kernel: Kernel, pod: Namespace) -> None:
    """Although new links are by default: the gateway asks for an address that the node can reach on another link."""
    set_sysctl("proxy_arp", default=1)
    set_sysctl("forwarding", all=1)
    await converge(kernel)
    edge.gateway.ip("route", "delete", PODS)
    edge.gateway.ip("route", "add", f"{POD}/32", "dev", "inner", "src", "192.168.100.1")
    with pytest.raises(OSError, match="No route to host"):
        edge.gateway.call(lambda: socket.create_connection((POD, 9)))


async def test_neighbours_never_learn_the_mac_of_the_parent_for_the_overlay_address(edge: Edge, kernel: Kernel) -> None:
    """A packet with the overlay address as source, to a host in the subnet of the parent."""
    await converge(kernel)
    edge.gateway.ip("neighbour", "flush", "all")
    ip("neighbour", "flush", "all")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((str(OVERLAY.ip), 0))
        sender.sendto(b"x", (GATEWAY_PRIVATE, 9))
        await until(lambda: "lladdr" in ip("neighbour", "show", GATEWAY_PRIVATE), "the gateway has answered ARP")
    assert PARENT_MAC not in edge.gateway.ip("neighbour", "show", str(OVERLAY.ip))
