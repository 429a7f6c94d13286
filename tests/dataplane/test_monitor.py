"""Kernel changes that wake the monitor, and those that do not."""

import asyncio
import socket
import struct
from collections.abc import Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor, notifications
from overlay_net.adapters.netlink.sockets import KernelSockets
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.policy_rule import SourceRouting, SourceTable
from overlay_net.model.route_key import encode_route_key
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import converge, desired, route
from tests.fakes.netns import ip
from tests.fakes.until import until


async def woken_by(wakes: list[float], *changes: str) -> int:
    """How often changes (arguments of `ip`) wake the monitor; the last one must concern us."""
    before = len(wakes)
    for arguments in changes:
        ip(*arguments.split())
    async with asyncio.timeout(10):
        while len(wakes) == before:
            await asyncio.sleep(0.005)
    return len(wakes) - before


def can_bind(netlink_socket: socket.socket, port: int) -> bool:
    with suppress(OSError):
        netlink_socket.bind((port, 0))
    bound: int = netlink_socket.getsockname()[0]
    return bound == port


async def test_changes_that_concern_us_wake_the_monitor_and_foreign_routes_do_not(kernel: Kernel) -> None:
    state = desired(route("192.168.0.0/24"))
    state = replace(state, source=SourceRouting(SourceTable(117, 11700, 8), ip_address("192.168.100.1")))
    await converge(kernel, state)
    while "tentative" in ip("-6", "address"):
        # The end of duplicate address detection for link-local addresses would wake the monitor.
        await asyncio.sleep(0.05)
    wakes: list[float] = []
    task = asyncio.create_task(Monitor(117, lambda: wakes.append(0)).run())
    assert await woken_by(wakes, "link set tmp0 mtu 1400")
    assert await woken_by(wakes, "route delete 192.168.0.0/24")
    assert await woken_by(wakes, "rule delete priority 11700")
    assert await woken_by(wakes, "-6 rule add from 2001:db8::4 lookup 117 priority 11700 protocol 117")
    assert await woken_by(wakes, "route delete default table 117")
    await converge(kernel, state)
    foreign = [f"route add 172.31.{number}.0/24 via 10.176.162.129 proto 186" for number in range(20)]
    assert await woken_by(wakes, *foreign, "address add 172.31.99.1/32 dev eth0")
    assert await woken_by(wakes, "route replace 192.168.0.0/24 via 10.176.162.129 proto static")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_changes_through_our_own_sockets_do_not_wake_the_monitor(eth0: None) -> None:
    wakes: list[float] = []
    monitor = Monitor(117, lambda: wakes.append(0))
    async with Kernel(MARK, opened=monitor.ignore) as kernel:
        state = desired(route("192.168.0.0/24"), *(route(f"172.16.{number}.0/24") for number in range(50)))
        # Routes and policy rules are changed through different sockets.
        state = replace(state, source=SourceRouting(SourceTable(117, 11700, 8), ip_address("192.168.100.1")))
        await converge(kernel, state)
        while "tentative" in ip("-6", "address"):
            await asyncio.sleep(0.05)
        task = asyncio.create_task(monitor.run())
        await woken_by(wakes)
        foreign = "route add 172.31.0.0/24 via 10.176.162.129 proto 117"
        for _ in range(2):
            before = len(wakes)
            await converge(kernel, desired())
            await converge(kernel, state)
            await converge(kernel, replace(state, routes=state.routes[:1]))
            await woken_by(wakes, foreign)
            assert len(wakes) - before == 1, "150 changes of our own did not wake it"
            cancelled = asyncio.create_task(kernel.observe(LINKS))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            # The cancellation replaced the sockets: the new ones are ignored, too.
            await converge(kernel, state)
            await woken_by(wakes, "route delete 192.168.0.0/24")
            assert len(wakes) - before == 2
            await converge(kernel, state)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_only_changes_through_our_open_sockets_are_ignored(eth0: None) -> None:
    wakes: list[float] = []
    monitor = Monitor(117, lambda: wakes.append(0))
    ports: dict[str, Set[int]] = {}

    def opened(kernel: str, its_ports: Set[int]) -> None:
        ports[kernel] = its_ports
        monitor.ignore(frozenset().union(*ports.values()))

    async with Kernel(MARK, opened=partial(opened, "second")) as second:
        async with Kernel(MARK, opened=partial(opened, "first")) as first:
            await converge(first, desired())
            while "tentative" in ip("-6", "address"):
                await asyncio.sleep(0.05)
            task = asyncio.create_task(monitor.run())
            await woken_by(wakes)
            before = len(wakes)
            await converge(second, desired(route("192.168.0.0/24")))
            await converge(first, desired(route("192.168.1.0/24")))
            port, _ = ports["first"]
        await woken_by(wakes, "route add 172.31.0.0/24 via 10.176.162.129 proto 117")
        assert len(wakes) - before == 1, "the changes through both sockets did not wake it"
        reused = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        async with Kernel(MARK, connect=lambda: KernelSockets(lambda: reused)) as other:
            # The first kernel closes its socket in a thread.
            await until(lambda: can_bind(reused, port), "the port is free")
            before = len(wakes)
            await converge(other, desired())
            await until(lambda: len(wakes) > before, "a change through the port of a closed socket wakes the monitor")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_route_that_was_notified_before_an_observation_counts_for_it(
    eth0: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakes: list[float] = []
    monitor = Monitor(117, lambda: wakes.append(0))
    awaited = AwaitedRoutes(keys={encode_route_key(ip_network("192.168.0.0/24"), 0, 254)})
    task = asyncio.create_task(monitor.run())
    await until(lambda: wakes, "the socket is open")
    assert monitor.follow(awaited).awaited_routes
    assert not monitor.follow(awaited).awaited_routes
    # The event loop does not run between a change and the observation.
    ip("route", "add", "192.168.0.0/24", "via", "10.176.162.129", "proto", "static")
    assert monitor.follow(awaited).awaited_routes
    assert not monitor.follow(awaited).awaited_routes
    monkeypatch.setattr(notifications, "DATAGRAMS_AT_ONCE", 2)
    for number in range(5):
        ip("route", "add", f"172.31.{number}.0/24", "via", "10.176.162.129", "proto", "186")
    assert monitor.follow(awaited).awaited_routes, (
        "there are more than can be read without a pause, one of which may be awaited"
    )
    await until(lambda: not monitor.follow(awaited).awaited_routes, "all have been read")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_only_messages_that_may_concern_us_count() -> None:
    monitor = Monitor(117, lambda: None)

    def message(kind: int, protocol: int, flags: int = 0) -> bytes:
        return struct.pack("=IHHII", 28, kind, flags, 0, 0) + bytes([2, 24, 0, 0, 254, protocol, 0, 1]) + bytes(4)

    new, delete, new_link, replacing = 24, 25, 16, 0x100
    assert not monitor.concerns(message(new, 186))
    assert not monitor.concerns(message(delete, 186) + message(new, 2))
    assert monitor.concerns(message(delete, 117))
    assert monitor.concerns(message(new, 186) + message(new, 117))
    assert monitor.concerns(message(new, 186, flags=replacing)), "it may have replaced one of ours"
    assert monitor.concerns(message(new_link, 0))

    def rule_message(kind: int, protocol: int) -> bytes:
        fra_protocol = 21
        body = bytes([socket.AF_INET]) + bytes(11) + struct.pack("=HHBxxx", 5, fra_protocol, protocol)
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body

    new_rule, delete_rule = 32, 33
    assert not monitor.concerns(rule_message(new_rule, 186) + rule_message(delete_rule, 0))
    assert monitor.concerns(rule_message(new_rule, 186) + rule_message(delete_rule, 117))


def test_messages_that_cannot_be_parsed_may_concern_us() -> None:
    monitor = Monitor(117, lambda: None)
    foreign = struct.pack("=IHHII", 28, 24, 0, 0, 0) + bytes([2, 24, 0, 0, 254, 186, 0, 1]) + bytes(4)
    assert not monitor.concerns(foreign)
    assert monitor.concerns(foreign[:-1])
    assert monitor.concerns(foreign + foreign[:10])
    assert monitor.concerns(bytes(16))
    rule_without_body = struct.pack("=IHHII", 16, 32, 0, 0, 0)
    assert monitor.concerns(rule_without_body)
