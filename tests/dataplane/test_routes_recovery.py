"""Routes when answers of the real kernel are lost, or when they change during a dump; ECMP routes of old kernels."""

import asyncio
import errno
import os
import socket
from ipaddress import ip_address, ip_network

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.adapters.netlink.bulk.ecmp_siblings import join_siblings
from overlay_net.adapters.netlink.bulk.socket import open_netlink_socket
from overlay_net.adapters.netlink.iproute import open_route_socket
from overlay_net.adapters.netlink.sockets import KernelSockets
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, SetMtu
from overlay_net.model.route import NextHop, Route
from tests.dataplane.conftest import MARK
from tests.dataplane.routes import index, numbered, shown


class OverflowingSocket(socket.socket):
    """A real netlink socket whose receive buffer overflows once."""

    overflows = 0

    def recvmsg(self, *arguments: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        self._overflow()
        return super().recvmsg(*arguments)

    def recvfrom(self, *arguments: int) -> tuple[bytes, object]:
        self._overflow()
        return super().recvfrom(*arguments)

    def _overflow(self) -> None:
        if OverflowingSocket.overflows:
            OverflowingSocket.overflows -= 1
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


async def test_lost_answers_are_an_error_and_the_next_observation_shows_the_result(eth0: None) -> None:
    def connect() -> KernelSockets:
        return KernelSockets(lambda: OverflowingSocket(fileno=open_netlink_socket().detach()))

    link = index("eth0")
    async with Kernel(MARK, connect=connect) as kernel:
        actions = [AddRoute(numbered(number, "10.176.162.129", link)) for number in range(10)]
        OverflowingSocket.overflows = 1
        with pytest.raises(KernelError, match="change 10 routes: ") as raised:
            await kernel.apply_routes(actions)
        assert raised.value.code == errno.ENOBUFS
        assert {action.route for action in actions} <= set((await kernel.observe()).routes)
        OverflowingSocket.overflows = 1
        with pytest.raises(KernelError, match="read links, addresses, routes and rules: ") as raised:
            await kernel.observe()
        assert raised.value.code == errno.ENOBUFS
        assert {action.route for action in actions} == shown()


async def test_lost_answer_to_a_change_of_a_link_is_an_error_and_the_change_can_be_repeated(eth0: None) -> None:
    def connect() -> KernelSockets:
        return KernelSockets(connect_route=lambda: OverflowingSocket(fileno=open_route_socket().detach()))

    async with Kernel(MARK, connect=connect) as kernel:
        for lost in (1, 0):
            OverflowingSocket.overflows = lost
            result = await asyncio.gather(kernel.apply(SetMtu("eth0", 1400)), return_exceptions=True)
            assert [getattr(error, "code", None) for error in result] == [errno.ENOBUFS if lost else None]
        OverflowingSocket.overflows = 1
        with pytest.raises(KernelError, match="read links, addresses, routes and rules: ") as raised:
            await kernel.observe()
        assert raised.value.code == errno.ENOBUFS
        assert [link.mtu for link in (await kernel.observe()).links if link.name == "eth0"] == [1400]


async def test_batches_fit_into_a_small_receive_buffer(eth0: None) -> None:
    """SO_RCVBUFFORCE is not allowed in a user namespace, and net.core.rmem_max may be low."""

    def connect() -> socket.socket:
        connection = open_netlink_socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        return connection

    async with Kernel(MARK, connect=lambda: KernelSockets(connect)) as kernel:
        bad = [AddRoute(numbered(number, "10.99.0.1", index("eth0"))) for number in range(500)]
        assert len(await kernel.apply_routes(bad)) == 500


async def test_dump_during_changes_contains_every_unchanged_route(eth0: None) -> None:
    link = index("eth0")
    unchanged = [numbered(number, "10.176.162.129", link) for number in range(0, 6000, 3)]
    changing = [AddRoute(numbered(number, "10.176.162.130", link)) for number in range(1, 6000, 3)]
    async with Kernel(MARK) as writer, Kernel(MARK) as reader:
        await writer.apply_routes([AddRoute(route) for route in unchanged])

        async def churn() -> None:
            while True:
                await writer.apply_routes(changing)
                await writer.apply_routes([DeleteRoute(action.route) for action in changing])

        task = asyncio.create_task(churn())
        try:
            for _ in range(10):
                assert set(unchanged) <= set((await reader.observe()).routes)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


# --- IPv6 ECMP of old kernels ----------------------------------------------------------------------------------------


def test_next_hops_dumped_one_by_one_become_one_route() -> None:
    def hop(gateway: str | None, link: int = 3, weight: int = 1) -> tuple[NextHop, ...]:
        return (NextHop(ip_address(gateway) if gateway else None, link, weight),)

    one = Route(ip_network("fd11::/64"), hop("fd00:7::3"), 117, 1024)
    two = one.replace(next_hops=hop("fd00:7::1"))
    three = one.replace(next_hops=hop("fd00:7::2"))
    together = one.replace(next_hops=(*two.next_hops, *three.next_hops, *one.next_hops))
    assert join_siblings([one, two, three]) == [together]
    for other in (
        two.replace(metric=5),
        two.replace(table=5),
        two.replace(protocol=5),
        two.replace(subnet=ip_network("fd12::/64")),
        two.replace(next_hops=hop(None)),
        two.replace(kind="blackhole", next_hops=()),
        two.replace(kind=None),
    ):
        assert join_siblings([one, other]) == [one, other]
