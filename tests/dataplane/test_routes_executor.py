"""The request socket when the other end is slow, silent, changing or forgetful: a scripted end, and the real one."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.adapters.netlink.executor import Executor
from overlay_net.adapters.netlink.routes import joined
from overlay_net.adapters.netlink.socket import BATCH, DUMP_SEQUENCE, DUMP_TRIES, NetlinkSocket, open_netlink_socket
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import NextHop, Route
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute
from tests.dataplane.conftest import MARKS
from tests.dataplane.routes import index, numbered, shown

MULTI, INTERRUPTED, CAPPED, TLVS = 0x2, 0x10, 0x100, 0x200
ERROR, DONE, NEW_ROUTE, GET_ROUTE = 2, 3, 24, 26


def message(kind: int, body: bytes, *, flags: int = MULTI, sequence: int = DUMP_SEQUENCE) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def done(code: int = 0, flags: int = MULTI) -> bytes:
    return message(DONE, struct.pack("=i", -code), flags=flags)


def refusal(code: int, sequence: int, words: bytes = b"") -> bytes:
    """NLMSG_ERROR as with NETLINK_CAP_ACK and NETLINK_EXT_ACK; a code of 0 acknowledges."""
    text = struct.pack("=HH", 5 + len(words), 1) + words + b"\0" if words else b""
    body = struct.pack("=iIHHII", -code, 100, NEW_ROUTE, 0, sequence, 0) + text + bytes(-len(text) & 3)
    return message(ERROR, body, flags=CAPPED | (TLVS if words else 0), sequence=sequence)


class Script:
    """The kernel's end of the sockets of one channel; each request is answered by the next line of the script."""

    def __init__(self, *lines: list[bytes] | Callable[[bytes], list[bytes]]) -> None:
        self.lines = list(lines)
        self.requests: list[bytes] = []
        self.opened = 0
        self._ends: list[socket.socket] = []

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        self._ends.append(theirs)
        self.opened += 1
        asyncio.get_running_loop().add_reader(theirs, self._answer, theirs)
        return ours

    def _answer(self, end: socket.socket) -> None:
        request = end.recv(2**20)
        if not request:
            asyncio.get_running_loop().remove_reader(end)
            return
        self.requests.append(request)
        line = self.lines.pop(0)
        for datagram in line if isinstance(line, list) else line(request):
            end.send(datagram)

    def say(self, datagram: bytes) -> None:
        self._ends[-1].send(datagram)

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    made: list[Script] = []

    def make(*lines: list[bytes] | Callable[[bytes], list[bytes]]) -> Script:
        made.append(Script(*lines))
        return made[-1]

    yield make
    for each in made:
        each.close()


FIRST, SECOND = message(NEW_ROUTE, b"once"), message(NEW_ROUTE, b"more")


@pytest.mark.parametrize(
    "interrupted",
    [
        [message(NEW_ROUTE, b"once", flags=MULTI | INTERRUPTED), done()],
        [FIRST, SECOND + message(NEW_ROUTE, b"last", flags=MULTI | INTERRUPTED) + done()],
        [FIRST, done(flags=MULTI | INTERRUPTED)],
    ],
)
async def test_an_interrupted_dump_is_read_again(script: Callable[..., Script], interrupted: list[bytes]) -> None:
    kernel = script(interrupted, [FIRST, SECOND + done()])
    channel = Executor(kernel.connect)
    assert await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, SECOND + done()]
    assert len(kernel.requests) == 2
    assert kernel.opened == 1, "an interrupted dump has come to its end: the socket is good"
    channel.close()


async def test_a_dump_that_is_always_interrupted_ends_with_an_error(script: Callable[..., Script]) -> None:
    kernel = script(*[[FIRST, done(flags=MULTI | INTERRUPTED)]] * DUMP_TRIES, [FIRST, done()])
    channel = Executor(kernel.connect)
    with pytest.raises(KernelError, match="changes faster") as raised:
        await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12))
    assert raised.value.code == errno.EINTR
    assert await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, done()]
    channel.close()


async def test_known_datagrams_do_not_hide_the_end_of_a_dump(script: Callable[..., Script]) -> None:
    kernel = script([FIRST, done()], [FIRST, SECOND, done()])
    channel = Executor(kernel.connect)
    known = await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12))
    assert await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12), known=known[:-1]) == [FIRST, SECOND, done()]
    channel.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ([FIRST, done(errno.EMSGSIZE)], os.strerror(errno.EMSGSIZE)),
        ([refusal(errno.EMSGSIZE, DUMP_SEQUENCE, b"Too much")], "Too much"),
        ([refusal(errno.EMSGSIZE, DUMP_SEQUENCE)], os.strerror(errno.EMSGSIZE)),
    ],
)
async def test_a_refused_dump(script: Callable[..., Script], answer: list[bytes], text: str) -> None:
    kernel = script(answer, [done()])
    channel = Executor(kernel.connect)
    with pytest.raises(KernelError) as raised:
        await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12))
    assert (str(raised.value), raised.value.code) == (text, errno.EMSGSIZE)
    assert await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [done()]
    channel.close()


def sequences(request: bytes) -> list[tuple[int, int]]:
    """(sequence number, flags) of each message of a request."""
    found, offset = [], 0
    while offset < len(request):
        length, _, flags, sequence, _ = struct.unpack_from("=IHHII", request, offset)
        found.append((sequence, flags))
        offset += length
    return found


async def test_refusals_by_position_and_other_peoples_answers_ignored(script: Callable[..., Script]) -> None:
    def answer(request: bytes) -> list[bytes]:
        (one, _), (two, _), (three, flags) = sequences(request)
        assert flags & 0x4, "the last one asks for an acknowledgement"
        late = refusal(errno.EPERM, one - 1, b"of an earlier request")
        return [late, refusal(errno.EEXIST, one) + refusal(errno.EINVAL, two, b"No"), refusal(0, three)]

    channel = Executor(script(answer).connect)
    refused = await channel.do(NetlinkSocket.request, [(NEW_ROUTE, 0, bytes(12))] * 3)
    assert {position: (each.code, each.text) for position, each in refused.items()} == {
        0: (errno.EEXIST, os.strerror(errno.EEXIST)),
        1: (errno.EINVAL, "No"),
    }
    channel.close()


async def test_a_silent_kernel_is_given_up_and_asked_anew(script: Callable[..., Script]) -> None:
    kernel = script([FIRST], [FIRST, done()], [])
    channel = Executor(kernel.connect, silence=0.1)
    with pytest.raises(KernelError, match="does not answer") as raised:
        await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12))
    assert raised.value.code == errno.ETIMEDOUT
    assert await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, done()]
    assert kernel.opened == 2, "on the first socket the rest of the first answer may come at any time"
    with pytest.raises(KernelError, match="does not answer"):
        await channel.do(NetlinkSocket.request, [(NEW_ROUTE, 0, bytes(12))])
    channel.close()


async def test_a_cancelled_exchange_leaves_nothing_behind(script: Callable[..., Script]) -> None:
    kernel = script([FIRST], [FIRST, done()])
    channel = Executor(kernel.connect)
    task = asyncio.create_task(channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12)))
    while not kernel.requests:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, done()]
    assert kernel.opened == 2
    channel.close()


async def test_a_slow_kernel_is_waited_for_as_long_as_it_goes_on(script: Callable[..., Script]) -> None:
    parts = [FIRST] * 8 + [done()]

    def slowly(_: bytes) -> list[bytes]:
        loop = asyncio.get_running_loop()
        for number, part in enumerate(parts[1:], start=1):
            loop.call_later(0.15 * number, kernel.say, part)
        return parts[:1]

    kernel = script(slowly)
    channel = Executor(kernel.connect, silence=0.5)
    assert await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == parts, "1.2 s, but never 0.5 s of silence"
    assert kernel.opened == 1
    channel.close()


async def test_a_cancelled_write_stops_with_what_was_sent(script: Callable[..., Script]) -> None:
    def acknowledge(request: bytes) -> list[bytes]:
        return [refusal(0, sequences(request)[-1][0])]

    kernel = script(acknowledge, [], [FIRST, done()])
    channel = Executor(kernel.connect)
    task = asyncio.create_task(channel.do(NetlinkSocket.request, [(NEW_ROUTE, 0, bytes(12))] * (3 * BATCH)))
    while len(kernel.requests) < 2:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await channel.do(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, done()]
    assert len(kernel.requests) == 3, "two batches, and the dump"
    channel.close()


# --- The real kernel --------------------------------------------------------------------------------------------------


class Forgetful(socket.socket):
    """A real netlink socket whose receive buffer overflows once."""

    overflows = 1

    def recvmsg(self, *arguments: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        if Forgetful.overflows:
            Forgetful.overflows -= 1
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return super().recvmsg(*arguments)


async def test_lost_answers_are_an_error_and_the_next_look_tells(eth0: None) -> None:
    Forgetful.overflows = 0

    def connect() -> socket.socket:
        return Forgetful(fileno=open_netlink_socket().detach())

    link = index("eth0")
    async with Kernel(MARKS, connect=connect) as kernel:
        actions = [AddRoute(numbered(number, "10.176.162.129", link)) for number in range(10)]
        Forgetful.overflows = 1
        with pytest.raises(KernelError, match="write 10 routes: ") as raised:
            await kernel.apply_routes(actions)
        assert raised.value.code == errno.ENOBUFS
        assert {action.route for action in actions} <= set((await kernel.observe()).routes)
        Forgetful.overflows = 1
        with pytest.raises(KernelError, match="read links, addresses, routes and rules: ") as raised:
            await kernel.observe()
        assert raised.value.code == errno.ENOBUFS
        assert {action.route for action in actions} == shown()


async def test_a_small_receive_buffer_means_small_batches(eth0: None) -> None:
    """As where SO_RCVBUFFORCE is not allowed: in a user namespace, with a low net.core.rmem_max."""

    def connect() -> socket.socket:
        channel = open_netlink_socket()
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        return channel

    async with Kernel(MARKS, connect=connect) as kernel:
        bad = [AddRoute(numbered(number, "10.99.0.1", index("eth0"))) for number in range(500)]
        assert len(await kernel.apply_routes(bad)) == 500


async def test_dumps_while_everything_changes(eth0: None) -> None:
    """What was there all along is in every answer, whatever comes and goes beside it."""
    link = index("eth0")
    lasting = [numbered(number, "10.176.162.129", link) for number in range(0, 6000, 3)]
    passing = [AddRoute(numbered(number, "10.176.162.130", link)) for number in range(1, 6000, 3)]
    async with Kernel(MARKS) as writer, Kernel(MARKS) as reader:
        await writer.apply_routes([AddRoute(route) for route in lasting])

        async def churn() -> None:
            while True:
                await writer.apply_routes(passing)
                await writer.apply_routes([DeleteRoute(action.route) for action in passing])

        task = asyncio.create_task(churn())
        try:
            for _ in range(10):
                assert set(lasting) <= set((await reader.observe()).routes)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


# --- IPv6 ECMP of old kernels ----------------------------------------------------------------------------------------


def test_next_hops_that_come_one_by_one_are_one_route() -> None:
    def hop(gateway: str | None, link: int = 3, weight: int = 1) -> tuple[NextHop, ...]:
        return (NextHop(ip_address(gateway) if gateway else None, link, weight),)

    one = Route(ip_network("fd11::/64"), hop("fd00:7::3"), 117, 1024)
    two = one.but(next_hops=hop("fd00:7::1"))
    three = one.but(next_hops=hop("fd00:7::2"))
    together = one.but(next_hops=(*two.next_hops, *three.next_hops, *one.next_hops))
    assert joined([one, two, three]) == [together]
    for other in (
        two.but(metric=5),
        two.but(table=5),
        two.but(protocol=5),
        two.but(subnet=ip_network("fd12::/64")),
        two.but(next_hops=hop(None)),
        two.but(kind="blackhole", next_hops=()),
        two.but(kind=None),
    ):
        assert joined([one, other]) == [one, other]
