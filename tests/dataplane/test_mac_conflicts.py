"""Another host with the MAC of the overlay link is reported; our frames that the network sends back are not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import IPv4Address

import pytest

from overlay_net.adapters.neighbours import is_running
from overlay_net.adapters.neighbours.arp_packet import ArpPacket
from overlay_net.adapters.neighbours.arp_socket import ArpSocket
from overlay_net.adapters.netlink import Kernel
from overlay_net.agent.neighbours import Neighbours
from overlay_net.domain.kernel.own_frames import find_own_frames
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.neighbours import HOST_MAC, MACHINE_MAC, OVERLAY_MAC, Lan, lan, make_port
from tests.fakes.arp_frames import BROADCAST, NONE, REPLY, arp
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

OURS = IPv4Address("192.168.100.4")
THEIRS = IPv4Address("192.168.100.77")
MARKER = IPv4Address("192.168.100.200")
ETH_P_ARP = 0x0806
STRANGER_MAC = "52:54:00:00:00:0e"


def frame(sender: str, target: str = str(THEIRS), operation: int = 1, source: str = OVERLAY_MAC) -> bytes:
    return arp(BROADCAST, source, operation, source, sender, target)


class OtherHost:
    """It sends given frames, and records those that it receives."""

    def __init__(self) -> None:
        make_port("host1", "port1", HOST_MAC)
        self.received: list[bytes] = []
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ARP))
        self.socket.bind(("host1", ETH_P_ARP))

    def sent_by(self, source: str) -> list[bytes]:
        """The frames with this Ethernet source, in the order in which they arrived."""
        while True:
            try:
                self.received.append(self.socket.recv(256))
            except BlockingIOError:
                return [each for each in self.received if each[6:12] == bytes.fromhex(source.replace(":", ""))]


class Node:
    """This host with the address OURS on tmp0, as its agent sees it."""

    def __init__(self, other: OtherHost) -> None:
        self.other = other
        self.changes: list[int] = []
        self.neighbours = Neighbours(lambda: self.changes.append(1))

    async def follow(self, assigned: IPv4Address = OURS) -> None:
        async with Kernel(MARK) as kernel:
            observed = await kernel.observe(LINKS)
        self.neighbours.recognise(find_own_frames(observed, "tmp0", MARK, assigned))
        self.neighbours.watch({"tmp0": {OURS}})

    async def hear(self, *frames: bytes) -> str | None:
        """The address of the other host with our MAC, after these frames and those before them were received."""
        for data in frames:
            self.other.socket.send(data)
        heard: list[ArpPacket] = []
        listening = [ArpSocket(name, heard.append, lambda error: None) for name in LINKS]
        for each in listening:
            each.open()
        self.other.socket.send(frame(str(MARKER), source=STRANGER_MAC))
        await until(lambda: [packet.sender for packet in heard].count(MARKER) == 2, "both links receive the next frame")
        for each in listening:
            each.close()
        # Sockets that are readable at the same time are read in any order.
        for _ in range(3):
            await asyncio.sleep(0)
        found = self.neighbours.mac_conflict
        return None if found is None else str(found.address)


@pytest.fixture(params=["bridge", "private", "vepa"])
async def node(lan: Lan, request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    ip("link", "delete", "tmp0")
    options = ("type", "macvlan", "mode", request.param)
    ip("link", "add", "tmp0", "link", "eth0", "address", OVERLAY_MAC, *options)
    ip("link", "set", "tmp0", "alias", MARK.alias)
    ip("link", "set", "tmp0", "up")
    found = Node(OtherHost())
    await until(lambda: is_running("tmp0") and is_running("host1"), "both links have a carrier")
    await found.follow()
    yield found
    found.neighbours.close()
    found.other.socket.close()


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(frame(str(THEIRS), "192.168.100.1"), id="request"),
        pytest.param(frame(str(THEIRS)), id="announcement"),
        pytest.param(frame(str(THEIRS), "192.168.100.1", REPLY), id="broadcast reply"),
        pytest.param(frame(NONE), id="probe for another address"),
    ],
)
async def test_a_host_with_our_mac_is_reported_with_an_address_of_it(node: Node, foreign: bytes) -> None:
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    await node.follow()
    assert await node.hear(foreign, frame("192.168.100.78")) == str(THEIRS)
    assert len(node.changes) == 1


async def test_a_copy_of_this_host_is_reported_when_it_probes_for_our_address(node: Node) -> None:
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    await node.follow()
    assert await node.hear(frame(NONE, str(OURS))) == str(OURS)


async def test_our_frames_that_the_network_sends_back_are_no_conflict(node: Node) -> None:
    """A probe, an announcement, and a request of the kernel, as a port in hairpin mode sends them back."""
    assert await node.neighbours.find_conflict("tmp0", OURS) is None
    ip("address", "add", f"{OURS}/24", "dev", "tmp0")
    node.neighbours.announce("tmp0", OURS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp_socket:
        udp_socket.sendto(b"x", (str(THEIRS), 9))
    await until(lambda: len(node.other.sent_by(OVERLAY_MAC)) >= 5, "probes, announcement and request are received")
    assert await node.hear(*node.other.sent_by(OVERLAY_MAC)) is None
    # Also while the agent has not observed that the address is configured or removed.
    await node.follow()
    ip("address", "delete", f"{OURS}/24", "dev", "tmp0")
    assert await node.hear(*node.other.sent_by(OVERLAY_MAC)) is None
    assert await node.hear(frame(str(THEIRS))) == str(THEIRS), "the watch works"


async def test_frames_of_other_links_of_this_host_and_of_other_hosts_are_no_mac_conflict(node: Node) -> None:
    assert await node.hear(frame(str(THEIRS), source=MACHINE_MAC), frame(str(THEIRS), source=STRANGER_MAC)) is None


async def test_a_host_with_the_mac_of_a_created_link_is_reported(node: Node) -> None:
    ip("link", "delete", "tmp0")
    await node.follow()
    ip("link", "add", "tmp0", "link", "eth0", "address", "52:54:00:00:00:07", "type", "macvlan", "mode", "bridge")
    ip("link", "set", "tmp0", "alias", MARK.alias)
    ip("link", "set", "tmp0", "up")
    await until(lambda: is_running("tmp0"), "tmp0 has a carrier")
    await node.follow()
    assert await node.hear(frame(str(THEIRS))) is None, "that was the MAC of the earlier link"
    assert await node.hear(frame(str(THEIRS), source="52:54:00:00:00:07")) == str(THEIRS)
