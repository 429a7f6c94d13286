"""ARP with other machines: is an address free, where is a gateway, who learns of an announcement."""

import asyncio
import sys
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
import uvloop

from overlay_net.adapters.neighbours import ArpLink, NeighbourDiscovery, local_macs
from overlay_net.model.errors import KernelError
from tests.dataplane.neighbours import (
    HOST_MAC,
    MACHINE_MAC,
    OVERLAY_MAC,
    OWN_MACS,
    SIBLING_MAC,
    Lan,
    lan,
    make_macvlan,
    until,
)
from tests.fakes.netns import ip

__all__ = ["lan"]

OURS = IPv4Address("192.168.100.4")
GATEWAY = IPv4Address("192.168.100.1")


def set_arp_ignore(value: int) -> None:
    for link in ("all", "eth0", "tmp0", "tmp1"):
        Path(f"/proc/sys/net/ipv4/conf/{link}/arp_ignore").write_text(str(value))


def has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


@pytest.fixture
async def tmp0(lan: Lan) -> AsyncIterator[ArpLink]:
    link = ArpLink("tmp0", own_macs=lambda: OWN_MACS)
    yield link
    link.close()


async def test_a_free_address_is_free(lan: Lan, tmp0: ArpLink) -> None:
    lan.machine("other", "192.168.100.9/24")
    assert await tmp0.probe(OURS) is None


async def test_a_duplicate_is_found_with_its_mac(lan: Lan, tmp0: ArpLink) -> None:
    other = lan.machine("other", f"{OURS}/24")
    assert await tmp0.probe(OURS) == lan.mac(other)
    assert OVERLAY_MAC not in other.ip("neighbour"), "a probe enters nobody's cache"


@pytest.mark.parametrize("arp_ignore", [0, 1])
@pytest.mark.parametrize("holder", ["eth0", "tmp1"])
async def test_what_this_machine_itself_answers_is_no_duplicate(lan: Lan, holder: str, arp_ignore: int) -> None:
    make_macvlan("tmp1", SIBLING_MAC)
    ip("address", "add", f"{OURS}/24", "dev", holder)
    set_arp_ignore(arp_ignore)
    assert {MACHINE_MAC, OVERLAY_MAC, SIBLING_MAC} <= local_macs()
    link = ArpLink("tmp0")
    try:
        assert await link.probe(OURS) is None
    finally:
        link.close()
    believes_all = ArpLink("tmp0", own_macs=frozenset)
    try:
        # The parent does not hear its macvlans; the sibling does, and answers for the parent unless it ignores that.
        expected = SIBLING_MAC if holder == "tmp1" or arp_ignore == 0 else None
        assert await believes_all.probe(OURS) == expected
    finally:
        believes_all.close()


async def test_of_two_that_probe_at_the_same_time_never_both_win(lan: Lan, tmp0: ArpLink) -> None:
    host = lan.host()

    async def later(seconds: float, address: IPv4Address) -> str | None:
        await asyncio.sleep(seconds)
        return await host.probe(address)

    try:
        addresses = [OURS + number for number in range(16)]
        ours = asyncio.gather(*(tmp0.probe(address) for address in addresses))
        theirs = asyncio.gather(*(later(number * 0.04, address) for number, address in enumerate(addresses)))
        for first, second in zip(await ours, await theirs, strict=True):
            assert first == HOST_MAC or second == OVERLAY_MAC
    finally:
        host.close()


async def test_an_announcement_corrects_a_neighbours_cache(lan: Lan, tmp0: ArpLink) -> None:
    other = lan.machine("other", "192.168.100.9/24")
    stale = ("neighbour", "replace", str(OURS), "lladdr", "52:54:00:00:00:99", "dev", "eth0", "nud", "reachable")
    other.ip(*stale)
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    # The link may have had no carrier yet.
    assert await tmp0.probe(IPv4Address("192.168.100.77")) is None
    tmp0.announce(OURS)
    await until(lambda: OVERLAY_MAC in other.ip("neighbour", "show", str(OURS)), "the neighbour knows our MAC")


async def test_a_gateway_resolves_and_nobody_does_not(lan: Lan, tmp0: ArpLink) -> None:
    other = lan.machine("other", f"{GATEWAY}/24")
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    await until(lambda: "LOWER_UP" in ip("link", "show", "tmp0"), "tmp0 has a carrier")
    assert await tmp0.resolve(GATEWAY, OURS, 5) == lan.mac(other)
    assert await tmp0.resolve(GATEWAY, OURS, 5) == lan.mac(other), "asked alone this time"
    assert await tmp0.resolve(IPv4Address("192.168.100.2"), OURS) is None


async def test_nothing_is_asked_from_an_address_that_we_do_not_have(tmp0: ArpLink) -> None:
    with pytest.raises(KernelError, match=r"send ARP from 192\.168\.100\.4"):
        await tmp0.resolve(GATEWAY, OURS)


async def test_a_link_that_cannot_tell_does_not_say_free(lan: Lan, tmp0: ArpLink) -> None:
    ip("link", "set", "port0", "down")
    with pytest.raises(KernelError, match="no carrier"):
        await tmp0.probe(OURS)
    with pytest.raises(KernelError, match="no carrier"):
        tmp0.announce(OURS)
    nowhere = ArpLink("tmp9")
    with pytest.raises(KernelError, match="no link tmp9"):
        await nowhere.probe(OURS)
    loopback = ArpLink("lo")
    with pytest.raises(KernelError, match="not an Ethernet link"):
        await loopback.probe(OURS)
    loopback.close()


def test_the_same_under_uvloop(lan: Lan) -> None:
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


async def test_a_host_that_begins_to_talk_during_the_probes_is_noticed(lan: Lan, tmp0: ArpLink) -> None:
    """It answers no ARP, yet asks for others from the address."""
    other = lan.machine("other", f"{OURS}/24")
    other.sysctl("net.ipv4.conf.eth0.arp_ignore", 8)
    talk = f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ({str(GATEWAY)!r}, 9))"
    probing = asyncio.create_task(tmp0.probe(OURS, listen=20))
    await asyncio.to_thread(other.run, sys.executable, "-c", talk)
    assert await probing == lan.mac(other)


async def test_ipv6_neighbours_resolve_and_learn(lan: Lan) -> None:
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
    await until(lambda: OVERLAY_MAC in other.ip("neighbour", "show", str(ours)), "the neighbour knows our MAC")
    with pytest.raises(KernelError, match="advertise fd00:7::5 on tmp0"):
        discovery.announce(IPv6Address("fd00:7::5"))
