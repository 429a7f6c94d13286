"""The watch over configured addresses and gateways, and links that go away and come back under it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address

import pytest

from overlay_net.adapters.neighbours import ArpLink
from overlay_net.adapters.neighbours.arp_packet import BROADCAST, REQUEST, ArpPacket
from overlay_net.adapters.neighbours.arp_socket import ArpSocket
from overlay_net.agent.neighbours import Neighbours
from overlay_net.model.errors import KernelError
from tests.dataplane.neighbours import (
    HOST_MAC,
    OVERLAY_MAC,
    OWN_MACS,
    Lan,
    lan,
    make_macvlan,
    make_port,
    until,
)
from tests.fakes.netns import ip

__all__ = ["lan"]

OURS = IPv4Address("192.168.100.4")
GATEWAY = IPv4Address("192.168.100.1")


class Ears:
    """All ARP that host1 hears."""

    def __init__(self) -> None:
        make_port("host1", "port1", HOST_MAC)
        self.packets: list[ArpPacket] = []
        self.channel = ArpSocket("host1", self.packets.append, lambda error: None)
        self.channel.open()

    def claims(self, address: IPv4Address) -> int:
        """How often tmp0 announced the address."""
        announcement = (OVERLAY_MAC, address, address)
        return sum((each.sender_mac, each.sender, each.target) == announcement for each in self.packets)

    def claim(self, address: IPv4Address) -> None:
        self.channel.send(ArpPacket(REQUEST, HOST_MAC, address, BROADCAST, address), BROADCAST)


@pytest.fixture
async def host1(lan: Lan) -> AsyncIterator[Ears]:
    ears = Ears()
    await until(lambda: ears.channel.running, "host1 has a carrier")
    yield ears
    ears.channel.close()


class Watched:
    def __init__(self) -> None:
        self.conflicts: list[tuple[IPv4Address, str]] = []
        self.moves: list[tuple[IPv4Address, str, str]] = []
        self.link = ArpLink(
            "tmp0",
            own_macs=lambda: OWN_MACS,
            on_conflict=lambda *conflict: self.conflicts.append(conflict),
            on_gateway_change=lambda *move: self.moves.append(move),
        )


@pytest.fixture
def watched(lan: Lan) -> Iterator[Watched]:
    found = Watched()
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    yield found
    found.link.close()


async def test_each_conflict_is_told_and_answered_once(watched: Watched, host1: Ears) -> None:
    watched.link.defend({OURS})
    await watched.link.probe(IPv4Address("192.168.100.77"))
    for _ in range(5):
        host1.claim(OURS)
    await until(lambda: len(watched.conflicts) == 5, "every conflict is told")
    assert set(watched.conflicts) == {(OURS, HOST_MAC)}
    # What is sent now is heard after all that was sent before.
    watched.link.announce(IPv4Address("192.168.100.78"), count=1)
    await until(lambda: host1.claims(IPv4Address("192.168.100.78")), "the last packet is heard")
    assert host1.claims(OURS) == 1


async def test_another_machine_that_uses_our_address(lan: Lan, watched: Watched) -> None:
    other = lan.machine("other", f"{OURS}/24")
    watched.link.defend({OURS})
    talk = f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ({str(GATEWAY)!r}, 9))"
    await asyncio.to_thread(other.run, sys.executable, "-c", talk)
    await until(lambda: watched.conflicts, "the conflict is told")
    assert watched.conflicts[0] == (OURS, lan.mac(other))


async def test_addresses_of_others_and_probes_for_ours_are_no_conflict(watched: Watched, host1: Ears) -> None:
    watched.link.defend({OURS})
    host1.claim(GATEWAY)
    host1.channel.send(ArpPacket(REQUEST, HOST_MAC, IPv4Address(0), BROADCAST, OURS), BROADCAST)
    host1.claim(OURS)
    await until(lambda: watched.conflicts, "the last packet is told")
    assert watched.conflicts == [(OURS, HOST_MAC)]
    watched.link.defend(())
    host1.claim(OURS)
    assert await watched.link.probe(GATEWAY) is None
    assert len(watched.conflicts) == 1, "it is no address of ours any more"


async def test_announcements_are_repeated_while_the_address_is_ours(watched: Watched, host1: Ears) -> None:
    given_up, never_ours = OURS + 1, OURS + 2
    watched.link.defend({OURS, given_up})
    await watched.link.probe(GATEWAY)
    watched.link.announce(given_up, count=2)
    watched.link.defend({OURS})
    watched.link.announce(never_ours, count=2)
    watched.link.announce(OURS, count=2)
    await until(lambda: host1.claims(OURS) == 2, "the announcement was repeated")
    assert (host1.claims(given_up), host1.claims(never_ours)) == (1, 1)


async def test_a_gateway_that_moves_is_told_whether_it_announces_itself_or_not(lan: Lan, watched: Watched) -> None:
    first = lan.machine("first", f"{GATEWAY}/24")
    await watched.link.probe(OURS + 9)
    assert await watched.link.resolve(GATEWAY, OURS, 5) == lan.mac(first)
    first.ip("address", "delete", f"{GATEWAY}/24", "dev", "eth0")
    second = lan.machine("second", f"{GATEWAY}/24")
    # Answered by nobody at the old MAC: the second half of the time asks all.
    assert await watched.link.resolve(GATEWAY, OURS, 2) == lan.mac(second)
    assert watched.moves == [(GATEWAY, lan.mac(first), lan.mac(second))]
    host = lan.host()
    try:
        await host.probe(OURS + 9)
        host.announce(GATEWAY)
        await until(lambda: len(watched.moves) == 2, "the announced move is told")
        assert watched.moves[1] == (GATEWAY, lan.mac(second), HOST_MAC)
    finally:
        host.close()


async def test_a_link_that_is_made_anew_is_watched_again(lan: Lan, watched: Watched, host1: Ears) -> None:
    watched.link.defend({OURS})
    ip("link", "delete", "tmp0")
    with pytest.raises(KernelError, match="no link tmp0"):
        watched.link.defend({OURS})
    with pytest.raises(KernelError, match="no link tmp0"):
        await watched.link.probe(GATEWAY)
    make_macvlan("tmp0", OVERLAY_MAC)
    watched.link.defend({OURS})
    host1.claim(OURS)
    await until(lambda: watched.conflicts, "the conflict is told")
    assert await watched.link.probe(OURS + 7) is None


async def test_a_link_that_goes_down_ends_the_probe_and_keeps_the_watch(watched: Watched, host1: Ears) -> None:
    watched.link.defend({OURS})
    probing = asyncio.create_task(watched.link.probe(OURS + 7, listen=60))
    await until(lambda: any(each.target == OURS + 7 for each in host1.packets), "the probe was sent")
    ip("link", "set", "tmp0", "down")
    with pytest.raises(KernelError, match="Network is down"):
        await probing
    ip("link", "set", "tmp0", "up")
    host1.claim(OURS)
    await until(lambda: watched.conflicts, "the conflict is told")


async def test_a_link_that_vanishes_ends_the_probe(watched: Watched, host1: Ears) -> None:
    probing = asyncio.create_task(watched.link.probe(OURS + 7, listen=60))
    await until(lambda: any(each.target == OURS + 7 for each in host1.packets), "the probe was sent")
    ip("link", "delete", "tmp0")
    with pytest.raises(KernelError, match="Network is down"):
        await probing


async def test_cancelled_and_closed_questions_leave_nothing_behind(lan: Lan, watched: Watched, host1: Ears) -> None:
    await watched.link.probe(OURS + 7)
    for turns in range(8):
        for question in (watched.link.probe(OURS + 8), watched.link.resolve(GATEWAY, OURS)):
            task = asyncio.create_task(question)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
    host1.claim(GATEWAY)
    assert await watched.link.probe(OURS + 7) is None
    probing = asyncio.create_task(watched.link.probe(OURS + 8, listen=60))
    await asyncio.sleep(0)
    watched.link.close()
    with pytest.raises(KernelError, match="was closed"):
        await probing


async def test_the_neighbourhood_reports_a_conflict_once_until_the_address_goes(lan: Lan, host1: Ears) -> None:
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    changes: list[int] = []
    neighbours = Neighbours(lambda: changes.append(1), own_macs=lambda: OWN_MACS)
    try:
        neighbours.watch({"tmp0": {OURS}, "absent0": {GATEWAY}})
        for _ in range(3):
            host1.claim(OURS)
        await until(lambda: neighbours.conflicts, "the conflict is known")
        assert await neighbours.find_conflict("tmp0", OURS + 7) is None
        (conflict,) = neighbours.conflicts
        assert (conflict.address, conflict.mac, conflict.link) == (OURS, HOST_MAC, "tmp0")
        assert changes == [1]
        neighbours.announce("tmp0", OURS)
        neighbours.watch({})
        assert neighbours.conflicts == ()
    finally:
        neighbours.close()
