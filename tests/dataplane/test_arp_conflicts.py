"""Defence of configured addresses and detection of moved gateways, also while the link is deleted or down."""

import asyncio
import fcntl
import sys
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from overlay_net.adapters.neighbours import ArpLink, is_running
from overlay_net.adapters.neighbours.arp_packet import BROADCAST, REQUEST, ArpPacket
from overlay_net.adapters.neighbours.arp_socket import ArpSocket
from overlay_net.adapters.netlink import Kernel
from overlay_net.agent.neighbours import Neighbours
from overlay_net.domain.kernel.own_frames import find_own_frames
from overlay_net.model.errors import KernelError
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.neighbours import HOST_MAC, OVERLAY_MAC, OWN_MACS, Lan, lan, make_macvlan, make_port
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

OURS = IPv4Address("192.168.100.4")
GATEWAY = IPv4Address("192.168.100.1")
THIRD_MAC = "52:54:00:00:00:05"


class ArpRecorder:
    """Records all ARP packets that host1 receives."""

    def __init__(self) -> None:
        make_port("host1", "port1", HOST_MAC)
        self.packets: list[ArpPacket] = []
        self.socket = ArpSocket("host1", self.packets.append, lambda error: None)
        self.socket.open()

    def announcements(self, address: IPv4Address) -> int:
        """How often tmp0 has announced the address."""
        announcement = (OVERLAY_MAC, address, address)
        return sum((each.sender_mac, each.sender, each.target) == announcement for each in self.packets)

    def announce(self, address: IPv4Address, mac: str = HOST_MAC) -> None:
        self.socket.send(ArpPacket(REQUEST, mac, address, BROADCAST, address), BROADCAST)


@pytest.fixture
async def host1(lan: Lan) -> AsyncIterator[ArpRecorder]:
    recorder = ArpRecorder()
    await until(lambda: recorder.socket.running, "host1 has a carrier")
    yield recorder
    recorder.socket.close()


class Defended:
    """tmp0 with its address, and what ArpLink reported."""

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
def tmp0(lan: Lan) -> Iterator[Defended]:
    found = Defended()
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    yield found
    found.link.close()


async def test_every_conflict_is_reported_and_the_address_defended_once(tmp0: Defended, host1: ArpRecorder) -> None:
    tmp0.link.defend({OURS})
    await tmp0.link.probe(IPv4Address("192.168.100.77"))
    for _ in range(5):
        host1.announce(OURS)
    await until(lambda: len(tmp0.conflicts) == 5, "every conflict is reported")
    assert set(tmp0.conflicts) == {(OURS, HOST_MAC)}
    # This packet is received after all earlier ones.
    tmp0.link.announce(IPv4Address("192.168.100.78"), count=1)
    await until(lambda: host1.announcements(IPv4Address("192.168.100.78")), "the last packet is received")
    assert host1.announcements(OURS) == 1


async def test_conflict_with_another_machine_is_reported_with_its_mac(lan: Lan, tmp0: Defended) -> None:
    other = lan.machine("other", f"{OURS}/24")
    tmp0.link.defend({OURS})
    send = f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ({str(GATEWAY)!r}, 9))"
    await asyncio.to_thread(other.run, sys.executable, "-c", send)
    await until(lambda: tmp0.conflicts, "the conflict is reported")
    assert tmp0.conflicts[0] == (OURS, lan.mac(other))


async def test_announcements_of_other_addresses_and_probes_are_no_conflict(tmp0: Defended, host1: ArpRecorder) -> None:
    tmp0.link.defend({OURS})
    host1.announce(GATEWAY)
    host1.socket.send(ArpPacket(REQUEST, HOST_MAC, IPv4Address(0), BROADCAST, OURS), BROADCAST)
    host1.announce(OURS)
    await until(lambda: tmp0.conflicts, "the last packet is reported")
    assert tmp0.conflicts == [(OURS, HOST_MAC)]
    tmp0.link.defend(())
    host1.announce(OURS)
    assert await tmp0.link.probe(GATEWAY) is None
    assert len(tmp0.conflicts) == 1, "the address is no longer defended"


async def test_announcements_are_repeated_while_the_address_is_defended(tmp0: Defended, host1: ArpRecorder) -> None:
    removed, never_defended = OURS + 1, OURS + 2
    tmp0.link.defend({OURS, removed})
    await tmp0.link.probe(GATEWAY)
    tmp0.link.announce(removed, count=2)
    tmp0.link.defend({OURS})
    tmp0.link.announce(never_defended, count=2)
    tmp0.link.announce(OURS, count=2)
    await until(lambda: host1.announcements(OURS) == 2, "the announcement was repeated")
    assert (host1.announcements(removed), host1.announcements(never_defended)) == (1, 1)


async def test_moved_gateway_is_reported_with_and_without_announcement(lan: Lan, tmp0: Defended) -> None:
    first = lan.machine("first", f"{GATEWAY}/24")
    await tmp0.link.probe(OURS + 9)
    assert await tmp0.link.resolve(GATEWAY, OURS, 5) == lan.mac(first)
    first.ip("address", "delete", f"{GATEWAY}/24", "dev", "eth0")
    second = lan.machine("second", f"{GATEWAY}/24")
    # The old MAC does not answer: the request is broadcast after half of the timeout.
    assert await tmp0.link.resolve(GATEWAY, OURS, 2) == lan.mac(second)
    assert tmp0.moves == [(GATEWAY, lan.mac(first), lan.mac(second))]
    host = lan.host()
    try:
        await host.probe(OURS + 9)
        host.announce(GATEWAY)
        await until(lambda: len(tmp0.moves) == 2, "the announced move is reported")
        assert tmp0.moves[1] == (GATEWAY, lan.mac(second), HOST_MAC)
    finally:
        host.close()


async def test_addresses_are_defended_on_a_re_created_link(lan: Lan, tmp0: Defended, host1: ArpRecorder) -> None:
    tmp0.link.defend({OURS})
    ip("link", "delete", "tmp0")
    with pytest.raises(KernelError, match="no link tmp0"):
        tmp0.link.defend({OURS})
    with pytest.raises(KernelError, match="no link tmp0"):
        await tmp0.link.probe(GATEWAY)
    make_macvlan("tmp0", OVERLAY_MAC)
    tmp0.link.defend({OURS})
    host1.announce(OURS)
    await until(lambda: tmp0.conflicts, "the conflict is reported")
    assert await tmp0.link.probe(OURS + 7) is None


async def test_link_down_ends_the_probe_and_keeps_the_defence(tmp0: Defended, host1: ArpRecorder) -> None:
    tmp0.link.defend({OURS})
    probing = asyncio.create_task(tmp0.link.probe(OURS + 7, listen=60))
    await until(lambda: any(each.target == OURS + 7 for each in host1.packets), "the probe was sent")
    ip("link", "set", "tmp0", "down")
    with pytest.raises(KernelError, match="Network is down"):
        await probing
    ip("link", "set", "tmp0", "up")
    host1.announce(OURS)
    await until(lambda: tmp0.conflicts, "the conflict is reported")


async def test_link_deletion_ends_the_probe(tmp0: Defended, host1: ArpRecorder) -> None:
    probing = asyncio.create_task(tmp0.link.probe(OURS + 7, listen=60))
    await until(lambda: any(each.target == OURS + 7 for each in host1.packets), "the probe was sent")
    ip("link", "delete", "tmp0")
    with pytest.raises(KernelError, match="Network is down"):
        await probing


async def test_cancelled_requests_do_not_affect_later_ones(lan: Lan, tmp0: Defended, host1: ArpRecorder) -> None:
    await tmp0.link.probe(OURS + 7)
    for turns in range(8):
        for request in (tmp0.link.probe(OURS + 8), tmp0.link.resolve(GATEWAY, OURS)):
            task = asyncio.create_task(request)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
    host1.announce(GATEWAY)
    assert await tmp0.link.probe(OURS + 7) is None
    probing = asyncio.create_task(tmp0.link.probe(OURS + 8, listen=60))
    await asyncio.sleep(0)
    tmp0.link.close()
    with pytest.raises(KernelError, match="was closed"):
        await probing


async def test_neighbours_report_a_conflict_once_until_the_address_is_removed(lan: Lan, host1: ArpRecorder) -> None:
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    changes: list[int] = []
    neighbours = Neighbours(lambda: changes.append(1), own_macs=lambda: OWN_MACS)
    try:
        neighbours.watch({"tmp0": {OURS}, "absent0": {GATEWAY}})
        for _ in range(3):
            host1.announce(OURS)
        await until(lambda: neighbours.conflicts, "the conflict is reported")
        assert await neighbours.find_conflict("tmp0", OURS + 7) is None
        (conflict,) = neighbours.conflicts
        assert (conflict.address, conflict.mac, conflict.link) == (OURS, HOST_MAC, "tmp0")
        assert changes == [1]
        neighbours.announce("tmp0", OURS)
        neighbours.watch({})
        assert neighbours.conflicts == ()
    finally:
        neighbours.close()


async def test_work_for_a_packet_does_not_depend_on_the_links_of_this_host(
    lan: Lan, host1: ArpRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node has a link for each of its pods, and every host can send packets of a gateway or with our address."""
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    for number in range(30):
        make_macvlan(f"pod{number}", f"52:54:00:00:02:{number:02x}")
    neighbours = Neighbours(lambda: None)
    async with Kernel(MARK) as kernel:
        neighbours.recognise(find_own_frames(await kernel.observe(LINKS), "tmp0", MARK, OURS))
    requests: list[int] = []

    def ioctl(file: Any, request: int, argument: bytes) -> Any:
        requests.append(request)
        return fcntl_ioctl(file, request, argument)

    fcntl_ioctl = fcntl.ioctl
    try:
        neighbours.watch({"tmp0": {OURS}})
        resolving = asyncio.create_task(neighbours.resolve("tmp0", GATEWAY, OURS, 60))
        await until(lambda: any(each.target == GATEWAY for each in host1.packets), "the gateway is resolved")
        monkeypatch.setattr(fcntl, "ioctl", ioctl)
        for _ in range(100):
            host1.announce(GATEWAY, THIRD_MAC)
            await asyncio.sleep(0)
        host1.announce(OURS, THIRD_MAC)
        await until(lambda: neighbours.conflicts, "the last packet is received")
        assert await resolving == THIRD_MAC
        # Sending asks for the MAC and the carrier of tmp0: 100 packets of the test, and one defence of the address.
        assert len(requests) <= 2 * (100 + 1 + 1)
    finally:
        neighbours.close()


async def test_forged_packets_cause_one_report_one_announcement_and_one_reaction(lan: Lan, host1: ArpRecorder) -> None:
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    changes: list[int] = []
    neighbours = Neighbours(lambda: changes.append(1), own_macs=lambda: OWN_MACS)
    try:
        neighbours.watch({"tmp0": {OURS}})
        host1.announce(OURS)
        await until(lambda: neighbours.conflicts, "the first host is reported")
        resolving = asyncio.create_task(neighbours.resolve("tmp0", GATEWAY, OURS, 60))
        await until(lambda: any(each.target == GATEWAY for each in host1.packets), "the gateway is resolved")
        host1.announce(GATEWAY)
        assert await resolving == HOST_MAC
        assert (len(changes), neighbours.take_gateway_change()) == (1, False)
        for number in range(100):
            forged = f"52:54:00:00:03:{number:02x}"
            host1.announce(OURS, forged)
            host1.announce(GATEWAY, forged)
            await asyncio.sleep(0)
        neighbours.announce("tmp0", OURS + 1)
        await until(lambda: host1.announcements(OURS + 1), "this packet is received after the forged ones")
        await until(lambda: len(changes) == 2, "the gateway has another MAC")
        assert [(each.address, each.mac) for each in neighbours.conflicts] == [(OURS, HOST_MAC)]
        assert (neighbours.take_gateway_change(), neighbours.take_gateway_change()) == (True, False)
        assert host1.announcements(OURS) == 1
    finally:
        neighbours.close()


async def test_a_host_that_also_answers_for_a_gateway_with_proxy_arp_claims_nothing(
    lan: Lan, tmp0: Defended, host1: ArpRecorder
) -> None:
    """The gateway answers the announcement of our address before its MAC is known."""
    tmp0.link.defend({OURS}, router=GATEWAY)
    await until(lambda: is_running("tmp0"), "tmp0 has a carrier")
    host1.announce(OURS)
    await until(lambda: any(each.target == GATEWAY for each in host1.packets), "the gateway is asked for")
    host1.announce(GATEWAY)
    host1.announce(OURS)
    host1.announce(OURS, THIRD_MAC)
    await until(lambda: tmp0.conflicts, "the claim of the other host is reported")
    assert tmp0.conflicts == [(OURS, THIRD_MAC)]
    tmp0.link.defend({OURS})
    host1.announce(OURS)
    await until(lambda: len(tmp0.conflicts) == 2, "without proxy ARP a gateway may have our address by mistake")
