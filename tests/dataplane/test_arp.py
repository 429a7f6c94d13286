"""ARP and neighbour discovery with other machines: probes for address conflicts, resolution, announcements."""

import asyncio
import sys
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
import uvloop

from overlay_net.adapters.neighbours import ArpLink, NeighbourDiscovery
from overlay_net.adapters.netlink import Kernel
from overlay_net.agent.neighbours import Neighbours
from overlay_net.domain.kernel.own_frames import find_own_frames
from overlay_net.model.errors import KernelError
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.neighbours import HOST_MAC, OVERLAY_MAC, OWN_MACS, SIBLING_MAC, Lan, lan, make_macvlan
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

OURS = IPv4Address("192.168.100.4")
GATEWAY = IPv4Address("192.168.100.1")


def set_arp_ignore(value: int) -> None:
    for link in ("all", "eth0", "tmp0", "tmp1"):
        Path(f"/proc/sys/net/ipv4/conf/{link}/arp_ignore").write_text(str(value))


def set_ipv6_forwarding(link: str) -> None:
    Path(f"/proc/sys/net/ipv6/conf/{link}/forwarding").write_text("1")


def has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


@pytest.fixture
async def tmp0(lan: Lan) -> AsyncIterator[ArpLink]:
    link = ArpLink("tmp0", own_macs=lambda: OWN_MACS)
    yield link
    link.close()


async def test_probe_of_a_free_address_finds_no_conflict(lan: Lan, tmp0: ArpLink) -> None:
    lan.machine("other", "192.168.100.9/24")
    assert await tmp0.probe(OURS) is None


async def test_probe_finds_the_mac_of_a_conflicting_host(lan: Lan, tmp0: ArpLink) -> None:
    other = lan.machine("other", f"{OURS}/24")
    assert await tmp0.probe(OURS) == lan.mac(other)
    assert OVERLAY_MAC not in other.ip("neighbour"), "a probe does not enter the other host's cache"


@pytest.mark.parametrize("arp_ignore", [0, 1])
@pytest.mark.parametrize("holder", ["eth0", "tmp1"])
async def test_replies_of_this_host_are_no_conflict(lan: Lan, holder: str, arp_ignore: int) -> None:
    make_macvlan("tmp1", SIBLING_MAC)
    ip("address", "add", f"{OURS}/24", "dev", holder)
    set_arp_ignore(arp_ignore)
    neighbours = Neighbours(lambda: None)
    try:
        async with Kernel(MARK) as kernel:
            observed = await kernel.observe(LINKS)
        neighbours.recognise(find_own_frames(observed, "tmp0", MARK, OURS))
        assert await neighbours.find_conflict("tmp0", OURS) is None
    finally:
        neighbours.close()
    trusting = ArpLink("tmp0", own_macs=frozenset)
    try:
        # The parent does not receive from its macvlans. The sibling does, and replies for the parent with arp_ignore=0.
        expected = SIBLING_MAC if holder == "tmp1" or arp_ignore == 0 else None
        assert await trusting.probe(OURS) == expected
    finally:
        trusting.close()


async def test_two_hosts_that_probe_at_the_same_time_never_both_find_the_address_free(lan: Lan, tmp0: ArpLink) -> None:
    host = lan.host()

    async def probe_after(seconds: float, address: IPv4Address) -> str | None:
        await asyncio.sleep(seconds)
        return await host.probe(address)

    try:
        addresses = [OURS + number for number in range(16)]
        ours = asyncio.gather(*(tmp0.probe(address) for address in addresses))
        theirs = asyncio.gather(*(probe_after(number * 0.04, address) for number, address in enumerate(addresses)))
        for first, second in zip(await ours, await theirs, strict=True):
            assert first == HOST_MAC or second == OVERLAY_MAC
    finally:
        host.close()


async def test_announcement_updates_a_stale_neighbour_cache(lan: Lan, tmp0: ArpLink) -> None:
    other = lan.machine("other", "192.168.100.9/24")
    stale = ("neighbour", "replace", str(OURS), "lladdr", "52:54:00:00:00:99", "dev", "eth0", "nud", "reachable")
    other.ip(*stale)
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    # Waits until the link has a carrier.
    assert await tmp0.probe(IPv4Address("192.168.100.77")) is None
    tmp0.announce(OURS)
    await until(lambda: OVERLAY_MAC in other.ip("neighbour", "show", str(OURS)), "the neighbour cache has our MAC")


async def test_gateway_resolves_and_an_unused_address_does_not(lan: Lan, tmp0: ArpLink) -> None:
    other = lan.machine("other", f"{GATEWAY}/24")
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    await until(lambda: "LOWER_UP" in ip("link", "show", "tmp0"), "tmp0 has a carrier")
    await until(lambda: "state UP" in other.ip("link", "show", "eth0"), "the other host is up")
    assert await tmp0.resolve(GATEWAY, OURS, 5) == lan.mac(other)
    assert await tmp0.resolve(GATEWAY, OURS, 5) == lan.mac(other), "by unicast this time"
    assert await tmp0.resolve(IPv4Address("192.168.100.2"), OURS) is None


async def test_resolution_from_an_address_that_is_not_configured_fails(tmp0: ArpLink) -> None:
    with pytest.raises(KernelError, match=r"send ARP from 192\.168\.100\.4"):
        await tmp0.resolve(GATEWAY, OURS)


async def test_probe_fails_on_a_link_without_carrier_or_ethernet(lan: Lan, tmp0: ArpLink) -> None:
    ip("link", "set", "port0", "down")
    await until(lambda: "LOWER_UP" not in ip("link", "show", "tmp0"), "tmp0 has lost its carrier")
    with pytest.raises(KernelError, match="no carrier"):
        await tmp0.probe(OURS)
    with pytest.raises(KernelError, match="no carrier"):
        tmp0.announce(OURS)
    missing = ArpLink("tmp9")
    with pytest.raises(KernelError, match="no link tmp9"):
        await missing.probe(OURS)
    loopback = ArpLink("lo")
    with pytest.raises(KernelError, match="not an Ethernet link"):
        await loopback.probe(OURS)
    loopback.close()


def test_probe_and_resolution_under_uvloop(lan: Lan) -> None:
    other = lan.machine("other", f"{GATEWAY}/24")
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")

    async def main() -> None:
        link = ArpLink("tmp0")
        try:
            assert await link.probe(GATEWAY) == lan.mac(other)
            assert await link.probe(OURS + 5) is None
            assert await link.resolve(GATEWAY, OURS, 5) == lan.mac(other)
        finally:
            link.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_probe_detects_a_host_that_only_sends_requests(lan: Lan, tmp0: ArpLink) -> None:
    """It sends ARP requests from the address, but answers none."""
    other = lan.machine("other", f"{OURS}/24")
    other.sysctl("net.ipv4.conf.eth0.arp_ignore", 8)
    send = f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ({str(GATEWAY)!r}, 9))"
    probing = asyncio.create_task(tmp0.probe(OURS, listen=20))
    await asyncio.to_thread(other.run, sys.executable, "-c", send)
    assert await probing == lan.mac(other)


async def test_ipv6_resolution_and_announcement(lan: Lan) -> None:
    ours, theirs = IPv6Address("fd00:7::4"), IPv6Address("fd00:7::1")
    if not has_ipv6():
        pytest.skip("the kernel has no IPv6")
    other = lan.machine("other", f"{theirs}/64")
    ip("address", "add", f"{ours}/64", "dev", "tmp0", "nodad")
    discovery = NeighbourDiscovery("tmp0")
    await until(lambda: "LOWER_UP" in ip("link", "show", "tmp0"), "tmp0 has a carrier")
    await until(lambda: "state UP" in other.ip("link", "show", "eth0"), "the other host is up")
    assert await discovery.resolve(theirs, ours, 5) == lan.mac(other)
    assert await discovery.resolve(IPv6Address("fd00:7::2"), ours) is None
    other.ip("neighbour", "replace", str(ours), "lladdr", "52:54:00:00:00:99", "dev", "eth0", "nud", "stale")
    discovery.announce(ours)
    await until(lambda: OVERLAY_MAC in other.ip("neighbour", "show", str(ours)), "the neighbour cache has our MAC")
    assert "router" not in other.ip("neighbour", "show", str(ours))
    set_ipv6_forwarding("tmp0")
    discovery.announce(ours)
    await until(lambda: "router" in other.ip("neighbour", "show", str(ours)), "the neighbour cache has a router")
    with pytest.raises(KernelError, match="advertise fd00:7::5 on tmp0"):
        discovery.announce(IPv6Address("fd00:7::5"))
