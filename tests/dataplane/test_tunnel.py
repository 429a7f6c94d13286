"""The overlay address on a tunnel, a link without Ethernet, with the real kernel."""

import fcntl
import os
import struct
from collections.abc import Iterator

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.agent.address_guard import AddressGuard
from overlay_net.agent.neighbours import Neighbours
from overlay_net.domain.kernel.gateway_health import probe_targets
from overlay_net.model.api import Listing
from overlay_net.model.conditions import find_condition
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import OVERLAY, ROUTE, make_config, node_overlay_ip
from tests.fakes.agent import make_agent
from tests.fakes.netns import ip, netns

__all__ = ["netns"]

# linux/if_tun.h
TUNSETIFF, IFF_TUN = 0x400454CA, 0x0001
OBJECT = node_overlay_ip(str(OVERLAY), ROUTE)


async def reconcile(mode: str) -> Report:
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((OBJECT,), "7"))
    reports: list[Report] = []
    neighbours = Neighbours(lambda: None)
    try:
        async with Kernel(MARK) as kernel:
            guard = AddressGuard(neighbours, MARK, lambda: 0.0)
            agent = make_agent(kernel, store, reports, make_config(mode, "tun0"), MARK, guard=guard)
            await agent.reconcile("n1")
            found = NodeOverlay.parse(OBJECT)
            assert not probe_targets(found.routes, await kernel.observe(), "tun0"), "there is no ARP"
    finally:
        neighbours.close()
    return reports[-1]


@pytest.fixture
def tunnel(netns: None) -> Iterator[None]:
    """tun0 of a program that runs, so it has a carrier."""
    try:
        program = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"the kernel has no tun links: {error}")
    try:
        fcntl.ioctl(program, TUNSETIFF, struct.pack("=16sH22x", b"tun0", IFF_TUN))
        ip("address", "add", "10.176.162.151/26", "dev", "tun0")
        ip("link", "set", "tun0", "up")
        yield
    finally:
        os.close(program)


async def test_address_and_routes_are_set_on_a_tunnel(tunnel: None) -> None:
    report = await reconcile("address")
    ready = find_condition(report.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.message) == (True, "address and 1 route are in place")
    assert "192.168.100.4/24" in ip("address", "show", "tun0")
    assert "via 192.168.100.1 dev tun0" in ip("route", "show", "192.168.0.0/24")


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
async def test_another_link_mode_on_a_tunnel_is_refused_with_the_setting_that_helps(tunnel: None, mode: str) -> None:
    report = await reconcile(mode)
    configured = find_condition(report.conditions, "Configured")
    assert configured is not None
    assert (configured.status, configured.reason) == (False, "ParentNotEthernet")
    assert "set link_mode to address" in configured.message
