"""Frames from a real link: those that the kernel would ignore change nothing that the agent knows about other hosts."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address

import pytest

from overlay_net.adapters.neighbours import ArpLink, is_running
from tests.dataplane.neighbours import HOST_MAC, Lan, lan, make_port
from tests.fakes.arp_frames import ADDRESS, FRAMES, LINK_MAC, OTHER_MAC, REPLY, Frame, arp
from tests.fakes.netns import ip, try_ip
from tests.fakes.until import until

__all__ = ["lan"]

MARKER = IPv4Address("192.168.100.200")
SOURCE = IPv4Address("192.168.100.4")
LINKS = ["tmp0", "eth0"]
HEARD = [*FRAMES, Frame("unicast request to another host", arp("02:00:00:00:0c:0c"), evidence=False)]


class Sender:
    """Another host on the LAN that sends given frames."""

    def __init__(self) -> None:
        make_port("host1", "port1", HOST_MAC)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.bind(("host1", 0))

    def send(self, frame: bytes) -> None:
        self.socket.send(frame)


class Heard:
    """A link of this host, and the conflicts that were found on it."""

    def __init__(self, link: str, sender: Sender) -> None:
        self.sender = sender
        self.conflicts: list[IPv4Address] = []
        self.link = ArpLink(link, on_conflict=lambda address, mac: self.conflicts.append(address))

    async def hear(self, frame: Frame) -> None:
        """Return once the frame, and everything that was sent before it, has been received."""
        self.conflicts.clear()
        self.sender.send(frame.data)
        self.sender.send(arp(sender=str(MARKER)))
        await until(lambda: MARKER in self.conflicts, "the frame after it is received")


@pytest.fixture
def sender(lan: Lan) -> Iterator[Sender]:
    found = Sender()
    yield found
    found.socket.close()


@pytest.fixture
async def heard(sender: Sender, request: pytest.FixtureRequest) -> AsyncIterator[Heard]:
    name = getattr(request, "param", "tmp0")
    if name == "eth0":
        ip("link", "delete", "tmp0")
    ip("link", "set", name, "address", LINK_MAC)
    ip("address", "add", f"{SOURCE}/24", "dev", name)
    await until(lambda: all(is_running(link) for link in (name, "host1")), "both links have a carrier")
    found = Heard(name, sender)
    yield found
    found.link.close()


def is_probe(frame: Frame) -> bool:
    """It claims nothing: the host that has the address answers it."""
    return "probe" in frame.name


async def result_so_far(task: "asyncio.Task[str | None]") -> str | None:
    """Let the task handle what was received, then end it."""
    for _ in range(3):
        await asyncio.sleep(0)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


def vlan_link() -> None:
    """Without it the kernel marks the frames of the VLAN as those of another host; with it they belong to that link."""
    refused = try_ip("link", "add", "link", "eth0", "name", "eth0.200", "type", "vlan", "id", "200")
    if refused:
        pytest.skip(f"the kernel has no VLAN links: {refused.strip()}")
    ip("link", "set", "eth0.200", "up")


@pytest.mark.parametrize("heard", LINKS, indirect=True)
async def test_probe_finds_only_hosts_that_use_the_address(heard: Heard) -> None:
    heard.link.defend({MARKER})
    found = {}
    for frame in HEARD:
        probing = asyncio.create_task(heard.link.probe(ADDRESS, listen=60))
        await asyncio.sleep(0)
        await heard.hear(frame)
        found[frame.name] = await result_so_far(probing)
    assert found == {frame.name: OTHER_MAC if frame.evidence else None for frame in HEARD}


@pytest.mark.parametrize("heard", LINKS, indirect=True)
async def test_address_in_use_is_claimed_only_by_frames_from_it(heard: Heard) -> None:
    heard.link.defend({ADDRESS, MARKER})
    claimed = {}
    for frame in HEARD:
        await heard.hear(frame)
        claimed[frame.name] = ADDRESS in heard.conflicts
    assert claimed == {frame.name: frame.evidence and not is_probe(frame) for frame in HEARD}


@pytest.mark.parametrize("heard", LINKS, indirect=True)
async def test_gateway_is_alive_only_by_frames_for_this_host(heard: Heard) -> None:
    heard.link.defend({MARKER})
    alive = {}
    for frame in HEARD:
        resolving = asyncio.create_task(heard.link.resolve(ADDRESS, SOURCE, 60))
        await asyncio.sleep(0)
        await heard.hear(frame)
        alive[frame.name] = await result_so_far(resolving) is not None
    assert alive == {frame.name: frame.evidence and not is_probe(frame) for frame in HEARD}


@pytest.mark.parametrize("heard", ["eth0"], indirect=True)
async def test_frames_of_a_vlan_that_this_host_is_on_belong_to_that_link(heard: Heard) -> None:
    vlan_link()
    heard.link.defend({ADDRESS, MARKER})
    for frame in HEARD:
        await heard.hear(frame)
        assert (ADDRESS in heard.conflicts) == (frame.evidence and not is_probe(frame)), frame.name


async def test_frames_for_a_macvlan_are_not_those_of_its_parent(heard: Heard) -> None:
    """The kernel delivers them to sockets of both."""
    parent = ArpLink("eth0", on_conflict=lambda address, mac: heard.conflicts.append(address))
    try:
        parent.defend({ADDRESS})
        heard.link.defend({MARKER})
        await heard.hear(Frame("unicast request", arp(LINK_MAC), evidence=False))
        assert heard.conflicts == [MARKER]
        await heard.hear(Frame("broadcast request", arp(), evidence=True))
        await until(lambda: ADDRESS in heard.conflicts, "the parent receives broadcasts")
    finally:
        parent.close()


async def test_gateway_answers_behind_a_flood_of_other_packets(heard: Heard) -> None:
    """The answer counts although the event loop gets to it only after the timeout."""
    resolving = asyncio.create_task(heard.link.resolve(ADDRESS, SOURCE, 0.1))
    await asyncio.sleep(0)
    for number in range(100):
        heard.sender.send(arp(sender=str(MARKER + number % 50)))
    heard.sender.send(arp(LINK_MAC, operation=REPLY))
    time.sleep(0.2)  # noqa: ASYNC251
    assert await resolving == OTHER_MAC
