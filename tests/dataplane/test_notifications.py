"""Notifications of the kernel through pyroute2's socket: as bytes, beyond a full buffer and a socket that breaks."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial

import pytest
import uvloop
from pyroute2.netlink.rtnl.iprsocket import IPRSocket

from overlay_net.adapters.netlink import notifications
from overlay_net.adapters.netlink.notification_filter import EVERYTHING, Program
from overlay_net.adapters.netlink.notifications import Connect, Group, Notifications, open_notification_socket
from tests.fakes.netns import ip
from tests.fakes.until import until

CONNECT: Connect = partial(open_notification_socket, [Group.IPV4_ROUTES], 2**20)


class Listener:
    """What a run of Notifications has called so far."""

    def __init__(self, connect: Connect) -> None:
        self.received: list[bytes] = []
        self.missed = 0
        self.run = Notifications(connect, self._received, self._missed).run

    def has(self, destination: str) -> bool:
        return any(socket.inet_aton(destination) in datagram for datagram in self.received)

    def _received(self, datagrams: Iterable[bytes]) -> None:
        self.received += datagrams

    def _missed(self) -> None:
        self.missed += 1


@asynccontextmanager
async def listening(connect: Connect = CONNECT) -> AsyncIterator[Listener]:
    listener = Listener(connect)
    task = asyncio.create_task(listener.run())
    await until(lambda: listener.missed, "the socket is open")
    yield listener
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def add_routes(count: int) -> None:
    """Meanwhile the event loop does not run."""
    for number in range(count):
        ip("route", "add", f"172.16.{number}.0/24", "via", "10.176.162.129")


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_each_datagram_arrives_as_the_kernel_sent_it(eth0: None, run: object) -> None:
    async def receive() -> None:
        async with listening() as listener:
            add_routes(2)
            await until(lambda: listener.has("172.16.1.0"), "the last route is reported")
        with IPRSocket() as parser:
            found = [message for data in listener.received for message in parser.marshal.parse(data)]
        assert [(each["event"], each.get_attr("RTA_DST")) for each in found] == [
            ("RTM_NEWROUTE", "172.16.0.0"),
            ("RTM_NEWROUTE", "172.16.1.0"),
        ]
        assert listener.missed == 1

    run(receive())  # type: ignore[operator]


async def test_dropped_notifications_are_missed_and_later_ones_arrive_through_the_same_socket(eth0: None) -> None:
    async with listening(partial(open_notification_socket, [Group.IPV4_ROUTES], 8192)) as listener:
        add_routes(100)
        await until(lambda: listener.missed == 2, "notifications that were dropped are missed")
        assert 0 < len(listener.received) < 100
        ip("route", "add", "172.31.0.0/24", "via", "10.176.162.129")
        await until(lambda: listener.has("172.31.0.0"), "the next change is reported")
        assert listener.missed == 2


async def test_broken_socket_is_replaced_and_notifications_are_missed(
    eth0: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifications, "PAUSE", 0.01)
    opened: list[socket.socket] = []

    @contextmanager
    def connect(accepted: Program) -> Iterator[socket.socket]:
        with ExitStack() as stack:
            found = broken_socket(stack) if not opened else stack.enter_context(CONNECT(accepted))
            opened.append(found)
            yield found

    with caplog.at_level(logging.WARNING):
        async with listening(connect) as listener:
            await until(lambda: len(opened) == 2 and listener.missed == 3, "another socket is open")
            add_routes(1)
            await until(lambda: listener.has("172.16.0.0"), "a change is reported")
    assert [record.message for record in caplog.records] == ["kernel notifications interrupted"]


def broken_socket(stack: ExitStack) -> socket.socket:
    """A socket whose other end was closed before it had received everything: reading fails with ECONNRESET."""
    found, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    stack.enter_context(found).send(b"unread")
    other.close()
    return found


def test_no_free_netlink_port_is_an_error_that_is_retried(netns: None) -> None:
    ports = [(os.getpid() & 0x3FFFFF) + (number << 22) for number in range(20, 200)]
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)) for _ in ports]
        for each, port in zip(taken, ports, strict=True):
            each.bind((port, 0))
        with pytest.raises(OSError, match="no netlink port"), CONNECT(EVERYTHING):
            pass
        taken[-1].close()
        with CONNECT(EVERYTHING) as connection:
            assert connection.getsockname()[0] == ports[-1]
