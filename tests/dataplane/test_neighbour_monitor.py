"""Neighbours that the kernel reports as failed or removed, which our own probes never cause."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from overlay_net.adapters.netlink import NeighbourMonitor
from overlay_net.adapters.netlink.neighbour_monitor import parse_neighbours
from overlay_net.adapters.netlink.notification_filter import LOST_NEIGHBOURS, attach
from overlay_net.agent.gateway_probe import gateway_probe
from overlay_net.agent.gateway_prober import GatewayProber
from overlay_net.agent.neighbours import Neighbours
from overlay_net.domain.kernel.gateway_health import Target
from overlay_net.model.desired_route import HealthCheck
from overlay_net.model.net import IpAddress
from tests.dataplane.neighbours import OWN_MACS, Lan, lan
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

SOURCES = {"192.168.100.1": "192.168.100.4", "fd00:7::1": "fd00:7::4"}


def shorten_resolution() -> None:
    """The kernel still sends three solicitations, but 50 ms apart instead of 1 s."""
    for family in ("ipv4", "ipv6"):
        Path(f"/proc/sys/net/{family}/neigh/tmp0/retrans_time_ms").write_text("50")


@pytest.fixture
async def lost(lan: Lan) -> AsyncIterator[list[IpAddress]]:
    ip("address", "add", "192.168.100.4/24", "dev", "tmp0")
    ip("address", "add", "fd00:7::4/64", "dev", "tmp0", "nodad")
    shorten_resolution()
    await until(lambda: "LOWER_UP" in ip("link", "show", "tmp0"), "tmp0 has a carrier")
    found: list[IpAddress] = []
    task = asyncio.create_task(NeighbourMonitor(found.append).run())
    # The socket is bound as soon as the task runs.
    await asyncio.sleep(0)
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def send_to(gateway: str) -> None:
    """The kernel resolves the neighbour, as for any traffic."""
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp_socket:
        udp_socket.sendto(b"x", (gateway, 9))


@pytest.mark.parametrize("gateway", SOURCES)
async def test_gateway_that_does_not_resolve_is_reported(lost: list[IpAddress], gateway: str) -> None:
    send_to(gateway)
    await until(lambda: ip_address(gateway) in lost, "the gateway is reported")


async def test_removed_neighbour_is_reported_and_a_reachable_one_is_not(lan: Lan, lost: list[IpAddress]) -> None:
    lan.machine("gateway", "192.168.100.1/24")
    send_to("192.168.100.1")
    await until(lambda: "REACHABLE" in ip("neigh", "show", "192.168.100.1"), "the gateway is reachable")
    send_to("192.168.100.9")
    await until(lambda: lost, "the other address is reported")
    assert set(lost) == {ip_address("192.168.100.9")}
    ip("neigh", "delete", "192.168.100.1", "dev", "tmp0")
    await until(lambda: ip_address("192.168.100.1") in lost, "its removal is reported")


@pytest.mark.parametrize("gateway", SOURCES)
async def test_gateway_probes_do_not_change_the_neighbour_table(lost: list[IpAddress], gateway: str) -> None:
    """Otherwise a probe that gets no answer would trigger the next one."""
    neighbours = Neighbours(lambda: None, own_macs=lambda: OWN_MACS)
    target = Target(ip_address(gateway), HealthCheck(interval=0.25, failures=5), ip_address(SOURCES[gateway]), "tmp0")
    async with GatewayProber(gateway_probe(neighbours.resolve), lambda: None) as prober:
        prober.watch([target])
        await until(lambda: prober.down, "five probes were not answered")
        # Notifications that the probes caused would arrive before this one.
        send_to("192.168.100.9")
        await until(lambda: ip_address("192.168.100.9") in lost, "the last notification has arrived")
        assert ip_address(gateway) not in lost
        assert not ip("neigh", "show", gateway)
    neighbours.close()


def test_only_failed_and_deleted_ip_neighbours_are_reported() -> None:
    def message(kind: int, family: int, state: int, address: str) -> bytes:
        packed = ip_address(address).packed
        body = struct.pack("=BxxxiHBB", family, 7, state, 0, 1) + struct.pack("=HH", 4 + len(packed), 1) + packed
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body

    new, deleted, reachable, failed, bridge = 28, 29, 0x02, 0x20, 7
    passing = [
        message(new, socket.AF_INET, failed, "10.0.0.2"),
        message(deleted, socket.AF_INET6, reachable, "fd00::3"),
    ]
    sent = [
        message(new, socket.AF_INET, reachable, "10.0.0.1"),
        passing[0],
        message(new, bridge, failed, "10.0.0.4"),
        message(deleted, bridge, reachable, "10.0.0.5"),
        passing[1],
    ]
    # The kernel filters any socket.
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with sender, receiver:
        attach(receiver, LOST_NEIGHBOURS)
        for each in sent:
            sender.send(each)
        received = [receiver.recv(1024) for _ in passing]
        with pytest.raises(BlockingIOError):
            receiver.recv(1024)
    assert [str(each) for each in parse_neighbours(b"".join(received))] == ["10.0.0.2", "fd00::3"]
    cut = struct.pack("=I", 34) + passing[0][4:34]
    assert not list(parse_neighbours(cut))
