"""Connections to the private address of a node from the subnet of a StaticRoute, with packets."""

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lab.net.namespaces import Namespace
from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel.reverse_path import private_address_condition
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired
from overlay_net.model.policy_rule import PrivateTable
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import LINK, converge, desired, route
from tests.dataplane.neighbours import Lan, lan
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

PRIVATE, OVERLAY = "10.176.162.151", "192.168.100.4"
FAR = "192.168.0.5"
"""An on-premise host: the private gateway and the overlay gateway both lead to it."""
PORT = 7118
CONNECT = f"""
import socket, sys
s = socket.socket()
s.settimeout(60)
s.bind(({FAR!r}, 0))
s.connect((sys.argv[1], {PORT}))
print(s.recv(9).decode(), flush=True)
"""


def with_private(*routes: DesiredRoute, address: str = f"{OVERLAY}/24") -> Desired:
    link = replace(LINK, group=MARK.group)
    return replace(desired(*routes, address=address), link=link, private=PrivateTable(118, 11700))


@pytest.fixture
def node(lan: Lan) -> Lan:
    ip("link", "delete", "tmp0")
    ip("address", "add", f"{PRIVATE}/26", "dev", "eth0")
    ip("route", "add", "default", "via", "10.176.162.129")
    return lan


def rp_filter(link: str, value: str) -> None:
    Path(f"/proc/sys/net/ipv4/conf/{link}/rp_filter").write_text(value)


def gateways(lan: Lan) -> tuple[Namespace, Namespace]:
    """The private gateway and the overlay gateway, each of which is the far host as well."""
    private, overlay = lan.machine("private", "10.176.162.129/26"), lan.machine("overlay", "192.168.100.1/24")
    for each in (private, overlay):
        each.ip("address", "add", f"{FAR}/32", "dev", "lo")
        for link in ("all", "eth0"):
            each.sysctl(f"net.ipv4.conf.{link}.rp_filter", 0)
    return private, overlay


def dropped() -> int:
    """How many packets the reverse path filter has dropped in this namespace."""
    names, values = (line.split() for line in Path("/proc/thread-self/net/netstat").read_text().splitlines()[:2])
    return int(values[names.index("IPReversePathFilter")])


@contextmanager
def connecting(far: Namespace, address: str) -> Iterator["asyncio.Future[str]"]:
    """A connection from the far host to this node; the result is what it receives."""
    server = socket.create_server((address, PORT))
    server.settimeout(60)
    with server, far.popen(sys.executable, "-c", CONNECT, address) as client:

        def serve() -> str:
            connection, _ = server.accept()
            with connection:
                connection.send(b"hello")
                assert client.stdout
                return str(client.stdout.readline().strip())

        try:
            yield asyncio.get_running_loop().run_in_executor(None, serve)
        finally:
            client.kill()


async def warnings(kernel: Kernel, state: Desired) -> list[str]:
    plan = await converge(kernel, state)
    return [each.message for each in private_address_condition(state, await kernel.observe(LINKS), plan, MARK)]


@pytest.mark.parametrize("strict", ["eth0", "all"])
async def test_hosts_of_a_static_route_reach_the_private_address_in_spite_of_a_strict_filter(
    node: Lan, strict: str
) -> None:
    private, _ = gateways(node)
    for link in ("all", "eth0"):
        rp_filter(link, "1" if link == strict else "0")
    async with Kernel(MARK) as kernel:
        assert await warnings(kernel, desired()) == []
        with connecting(private, PRIVATE) as received:
            assert await received == "hello", "without a StaticRoute it is reachable"
        (warning,) = await warnings(kernel, desired(route("192.168.0.0/24")))
        assert f"drops packets from 192.168.0.0/24 to {PRIVATE}" in warning
        before = dropped()
        with connecting(private, PRIVATE) as received:
            await until(lambda: dropped() > before, "the filter drops the first packet")
            assert not received.done()
            assert await warnings(kernel, with_private(route("192.168.0.0/24"))) == []
            assert await received == "hello", "the packet is sent again, and accepted"


async def test_a_filter_that_is_not_strict_drops_nothing_and_is_not_warned_about(node: Lan) -> None:
    gateways(node)
    async with Kernel(MARK) as kernel:
        for everywhere, eth0 in (("0", "0"), ("1", "2"), ("2", "1")):
            rp_filter("all", everywhere)
            rp_filter("eth0", eth0)
            assert await warnings(kernel, desired(route("192.168.0.0/24"))) == []


async def test_answers_of_the_private_address_do_not_leave_over_the_overlay(node: Lan) -> None:
    """The same without a filter: the answer would reach the overlay gateway, which does not know the connection."""
    private, overlay = gateways(node)
    for link in ("all", "eth0"):
        rp_filter(link, "0")
    async with Kernel(MARK) as kernel:
        await converge(kernel, desired(route("192.168.0.0/24")))
        assert path(FAR, PRIVATE) == "tmp0 192.168.100.1"
        await converge(kernel, with_private(route("192.168.0.0/24")))
        with connecting(private, PRIVATE) as received:
            assert await received == "hello"
        with connecting(overlay, OVERLAY) as received:
            assert await received == "hello", "traffic of the overlay address still uses the overlay"


def path(destination: str, source: str) -> str:
    (found,) = json.loads(ip("-j", "route", "get", destination, "from", source))
    return f"{found['dev']} {found.get('gateway', '')}".strip()


@pytest.mark.parametrize(
    ("destination", "source", "expected"),
    [
        (FAR, PRIVATE, "eth0 10.176.162.129"),
        (FAR, OVERLAY, "tmp0 192.168.100.1"),
        (FAR, "10.176.162.152", "eth0 10.176.162.129"),
        ("10.50.0.1", PRIVATE, "eth0 10.176.162.130"),
        ("10.51.0.1", PRIVATE, "eth0 10.176.162.130"),
        ("8.8.8.8", PRIVATE, "eth0 10.176.162.129"),
        ("192.168.100.9", PRIVATE, "tmp0"),
        ("10.176.162.140", PRIVATE, "eth0"),
        ("10.244.1.5", PRIVATE, "pod0"),
        ("10.244.2.7", PRIVATE, "eth0 10.176.162.153"),
    ],
)
async def test_path_of_packets(node: Lan, destination: str, source: str, expected: str) -> None:
    """Pods, neighbours and all that no StaticRoute concerns take the routes of the main table as before."""
    ip("address", "add", "10.176.162.152/32", "dev", "eth0")
    ip("route", "add", "10.0.0.0/8", "via", "10.176.162.130")
    ip("link", "add", "pod0", "type", "veth", "peer", "name", "pod1")
    ip("link", "set", "pod0", "up")
    ip("route", "add", "10.244.1.5/32", "dev", "pod0")
    ip("route", "add", "10.244.2.0/24", "via", "10.176.162.153")
    async with Kernel(MARK) as kernel:
        await converge(kernel, with_private(route("192.168.0.0/24"), route("10.50.0.0/16")))
    assert path(destination, source) == expected


async def test_path_of_ipv6_packets(node: Lan) -> None:
    ip("address", "add", "fd00:7::2/64", "dev", "eth0", "nodad")
    ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
    state = with_private(route("fd00:9::/48", "fd00:100::1"), address="fd00:100::4/64")
    async with Kernel(MARK) as kernel:
        await converge(kernel, state)
        await until(lambda: "tentative" not in ip("-6", "address", "show", "tmp0"), "duplicate address detection")
        await converge(kernel, state)
        assert path("fd00:9::1", "fd00:100::4") == "tmp0 fd00:100::1"
        assert path("fd00:9::1", "fd00:7::2") == "eth0 fe80::1"


async def test_disabling_removes_rules_table_and_group(node: Lan) -> None:
    def shown() -> list[str]:
        return [ip("rule"), ip("-6", "rule"), ip("route", "show", "table", "all", "proto", "117"), group()]

    def group() -> str:
        return str(json.loads(ip("-j", "link", "show", "tmp0"))[0]["group"])

    async with Kernel(MARK) as kernel:
        await converge(kernel, desired(route("192.168.0.0/24")))
        before = shown()
        await converge(kernel, with_private(route("192.168.0.0/24")))
        ip("rule", "delete", "priority", "11700")
        ip("link", "set", "tmp0", "group", "5")
        await converge(kernel, with_private(route("192.168.0.0/24")))
        assert path(FAR, PRIVATE) == "eth0 10.176.162.129", "what another process changed is repaired"
        assert group() == str(MARK.group)
        await converge(kernel, desired(route("192.168.0.0/24")))
        assert shown() == before
