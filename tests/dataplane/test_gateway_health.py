"""Health checks of gateways on real links by ARP, neighbour solicitation, ICMP echo and TCP."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop

from lab.net.namespaces import Namespace
from overlay_net.adapters.ping import checksum, echo_request, is_reply
from overlay_net.agent.gateway_probe import GatewayProbe, gateway_probe
from overlay_net.agent.gateway_prober import GatewayProber
from overlay_net.agent.neighbours import Neighbours
from overlay_net.domain.kernel.gateway_health import Target
from overlay_net.model.desired_route import CheckKind, HealthCheck
from overlay_net.model.errors import KernelError
from tests.dataplane.neighbours import OWN_MACS, Lan, lan
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

PORT = 7179
BUSY = 0.2
"""Seconds for which the event loop is blocked, as by a large reconciliation: the answer arrives within."""
SERVER = f"""
import socket
listener = socket.create_server(("192.168.100.1", {PORT}))
print("ready", flush=True)
while True:
    listener.accept()[0].close()
"""


@pytest.fixture
async def probe(lan: Lan) -> AsyncIterator[GatewayProbe]:
    ip("address", "add", "192.168.100.4/24", "dev", "tmp0")
    ip("address", "add", "fd00:7::4/64", "dev", "tmp0", "nodad")
    neighbours = Neighbours(lambda: None, own_macs=lambda: OWN_MACS)
    await until(lambda: "LOWER_UP" in ip("link", "show", "tmp0"), "tmp0 has a carrier")
    yield gateway_probe(neighbours.resolve)
    neighbours.close()


def target(kind: CheckKind = "arp", address: str = "192.168.100.1", link: str = "tmp0") -> Target:
    source = "fd00:7::4" if ":" in address else "192.168.100.4"
    check = HealthCheck(kind, PORT, interval=0.25, failures=2, successes=2)
    return Target(ip_address(address), check, ip_address(source), link)


@contextmanager
def serving(gateway: Namespace) -> Iterator[None]:
    with gateway.popen(sys.executable, "-c", SERVER) as server:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        yield
        server.kill()


def allow_ping_sockets(allowed: bool) -> None:
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0" if allowed else "1 0")


KINDS: tuple[CheckKind, ...] = ("arp", "icmp", "tcp")
CASES: list[tuple[CheckKind, str, bool]] = [
    ("arp", "192.168.100.1", False),
    ("arp", "fd00:7::1", False),
    ("icmp", "192.168.100.1", False),
    ("icmp", "192.168.100.1", True),
    ("icmp", "fd00:7::1", False),
    ("icmp", "fd00:7::1", True),
    ("tcp", "192.168.100.1", False),
]


@pytest.mark.parametrize(("kind", "address", "ping_sockets"), CASES)
async def test_probe_of_a_gateway(
    lan: Lan, probe: GatewayProbe, kind: CheckKind, address: str, ping_sockets: bool
) -> None:
    allow_ping_sockets(ping_sockets)
    gateway = lan.machine("gateway", "192.168.100.1/24", "fd00:7::1/64")
    if kind == "tcp":
        assert not await probe(target(kind, address), 5), "the connection is refused"
    with serving(gateway):
        assert await probe(target(kind, address), 5)
    gateway.ip("link", "set", "eth0", "down")
    assert not await probe(target(kind, address), 0.2)


@pytest.mark.parametrize(("kind", "address", "ping_sockets"), CASES)
async def test_answer_that_arrived_while_the_agent_was_busy_counts(
    lan: Lan, probe: GatewayProbe, kind: CheckKind, address: str, ping_sockets: bool
) -> None:
    allow_ping_sockets(ping_sockets)
    with serving(lan.machine("gateway", "192.168.100.1/24", "fd00:7::1/64")):
        # The neighbour entries are known from now on.
        first = await probe(target(kind, address), 5)
        probing = asyncio.create_task(probe(target(kind, address), BUSY / 5))
        await asyncio.sleep(0)
        time.sleep(BUSY)  # noqa: ASYNC251
        second = await probing
    assert (first, second) == (True, True)


@pytest.mark.parametrize("kind", KINDS)
async def test_probe_over_a_broken_link_of_our_own_is_an_error(lan: Lan, probe: GatewayProbe, kind: CheckKind) -> None:
    lan.machine("gateway", "192.168.100.1/24")
    ip("link", "set", "port0", "down")
    await until(lambda: "LOWER_UP" not in ip("link", "show", "tmp0"), "tmp0 has lost its carrier")
    with pytest.raises(KernelError, match="tmp0 is down or has no carrier"):
        await probe(target(kind), 0.2)
    ip("link", "set", "port0", "up")
    await until(lambda: "LOWER_UP" in ip("link", "show", "tmp0"), "tmp0 has a carrier")
    ip("address", "flush", "dev", "tmp0")
    with pytest.raises(KernelError, match="Cannot assign requested address"):
        await probe(target(kind), 0.2)
    with pytest.raises(KernelError, match="link tmp9"):
        await probe(target(kind, link="tmp9"), 0.2)


@pytest.mark.parametrize("kind", ["arp", "icmp"])
async def test_gateway_that_goes_down_and_up_is_reported(lan: Lan, probe: GatewayProbe, kind: CheckKind) -> None:
    gateway = lan.machine("gateway", "192.168.100.1/24")
    lan.machine("second", "192.168.100.2/24")
    changes: list[set[str]] = []
    async with GatewayProber(probe, lambda: changes.append({str(each) for each in prober.down})) as prober:
        desired = [target(kind), target(kind, "192.168.100.2")]
        prober.watch(desired)
        await until(lambda: prober.known, "both gateways have answered")
        gateway.ip("link", "set", "eth0", "down")
        await until(lambda: prober.down, "the gateway is down")
        (report,) = prober.reports
        assert str(report.address) == "192.168.100.1"
        assert "no answer" in report.reason
        prober.watch(desired)
        gateway.ip("link", "set", "eth0", "up")
        await until(lambda: not prober.down, "the gateway is up again", within=40)
        assert prober.reports == ()
    assert changes == [set(), {"192.168.100.1"}, set()]


async def test_gateway_states_are_kept_while_our_own_link_is_down(
    lan: Lan, probe: GatewayProbe, caplog: pytest.LogCaptureFixture
) -> None:
    lan.machine("gateway", "192.168.100.1/24")
    with caplog.at_level(logging.WARNING):
        async with GatewayProber(probe, lambda: None) as prober:
            prober.watch([target(), target(address="192.168.100.2")])
            await until(lambda: prober.down, "the second gateway is down")
            ip("link", "set", "tmp0", "down")
            await until(lambda: caplog.text.count("cannot probe a gateway") == 2, "neither gateway can be probed")
            before = prober.reports
            ip("link", "set", "tmp0", "up")
            prober.watch([target()])
            assert not prober.down
            assert [str(report.address) for report in before] == ["192.168.100.2"]


def test_only_replies_to_our_own_ping_count() -> None:
    cookie = bytes(range(16))
    request, reply = echo_request(8, cookie), echo_request(0, cookie)
    header = bytes([0x46]) + bytes(23)
    assert is_reply(reply, 0, cookie, 4)
    assert is_reply(header + reply, 0, cookie, 4), "a raw socket includes the IP header, here with options"
    assert is_reply(echo_request(129, cookie), 129, cookie, 6)
    for other in (b"", request, header + request, header, reply[:-1], echo_request(0, cookie[::-1])):
        assert not is_reply(other, 0, cookie, 4)
    assert checksum(reply) == 0


def test_health_checks_under_uvloop(lan: Lan) -> None:
    gateway = lan.machine("gateway", "192.168.100.1/24")
    ip("address", "add", "192.168.100.4/24", "dev", "tmp0")

    async def main() -> None:
        neighbours = Neighbours(lambda: None)
        probe = gateway_probe(neighbours.resolve)
        await until(lambda: "LOWER_UP" in ip("link", "show", "tmp0"), "tmp0 has a carrier")
        for kind in KINDS:
            assert await probe(target(kind), 5)
        gateway.ip("link", "set", "eth0", "down")
        for kind in KINDS:
            assert not await probe(target(kind), 0.2)
        neighbours.close()

    with serving(gateway), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
