"""Requests to the kernel over one netlink socket, and their answers; on any asyncio event loop.

The kernel works on a request while it is sent (netlink_unicast_kernel): so `send` takes as long as the work and is done
in a thread. The answers are there when it returns; waiting for them is the exception. One exchange at a time: a second
dump on a socket would be refused (EBUSY). Whatever ends an exchange early, a cancellation too, closes the socket, so
that no late answer is taken for the next one's.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Container, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from overlay_net.adapters.netlink.wire import (
    HEADER,
    I32,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    error_of,
    messages,
)
from overlay_net.model.errors import KernelError

BATCH = 256
"""Messages in one send. Answers to one batch must fit into the receive buffer, as all of them may be refusals."""
BATCH_BYTES = 64 * 1024
"""Well below the default send buffer: a larger datagram is refused (EMSGSIZE)."""
REFUSAL_BYTES = 2048
"""What one refusal takes of the receive buffer at most, with the kernel's own overhead (skb->truesize)."""
RECEIVE_BUFFER = 4 * 2**20
DATAGRAM = 64 * 1024
"""The kernel fills at most 32 KiB of it (netlink_dump); a single message never comes near."""
DATAGRAMS_IN_A_ROW = 8
"""Some 4,000 routes, or 4 ms, before others have their turn on the event loop."""
DUMP_TRIES = 8
TIMEOUT = 30.0

SO_RCVBUFFORCE = 33
# linux/socket.h, linux/netlink.h
SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12

DUMP_SEQUENCE = 1
"""The same for every dump: so the datagrams of two dumps are equal where the kernel's state is."""
FIRST_SEQUENCE = 2


Request: TypeAlias = tuple[int, int, bytes]
"""Type, flags beside NLM_F_REQUEST, and body of one message."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the kernel refused a request: the positive errno, and its own words where it has any."""

    code: int
    text: str


def set_receive_buffer(channel: socket.socket, size: int) -> None:
    try:
        channel.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        # Not root of the first user namespace: as much as net.core.rmem_max allows.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def open_route_socket() -> socket.socket:
    """A socket of the network namespace that the calling thread is in."""
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    try:
        set_receive_buffer(channel, RECEIVE_BUFFER)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            # Kernels before 4.20 do not know them all: there the errno has to do, and dumps are filtered by the reader.
            with contextlib.suppress(OSError):
                channel.setsockopt(SOL_NETLINK, option, 1)
        channel.bind((0, 0))
    except BaseException:
        channel.close()
        raise
    return channel


class Channel:
    """Opens its socket with the first exchange, and again after one that failed."""

    def __init__(self, connect: Callable[[], socket.socket] = open_route_socket, timeout: float = TIMEOUT) -> None:
        self._connect = connect
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._batch = BATCH
        self._sequence = FIRST_SEQUENCE
        self._turn = asyncio.Lock()
        # Starts its thread with the first request.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")
        self._sending: Future[None] = Future()
        self._sending.set_result(None)

    def close(self) -> None:
        """Let go of the socket; the next exchange opens another one."""
        if self._socket is not None:
            channel, self._socket = self._socket, None
            # A file number that is closed under a thread may be somebody else's by the time the thread uses it.
            self._sending.add_done_callback(lambda _: channel.close())
            if not self._sending.running():
                channel.close()

    async def dump(self, kind: int, body: bytes, known: Container[bytes] = ()) -> list[bytes]:
        """The datagrams that answer a dump request, the last one included. Raises KernelError.

        ``known`` are datagrams of an earlier answer, but for its last one: there is no need to look into them again.
        A dump during which something changed (NLM_F_DUMP_INTR) is read again; ENOBUFS means that some of it was lost.
        """
        header = HEADER.pack(16 + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, DUMP_SEQUENCE, 0)
        for _ in range(DUMP_TRIES):
            async with self._exchange() as channel:
                await self._start(channel, header + body)
                datagrams: list[bytes] = []
                interrupted = ended = False
                while not ended:
                    datagram = await self._receive(channel)
                    datagrams.append(datagram)
                    if datagram not in known:
                        ended, cut = _end_of_dump(datagram)
                        interrupted |= cut
                    if len(datagrams) % DATAGRAMS_IN_A_ROW == 0:
                        await asyncio.sleep(0)
            if not interrupted:
                return datagrams
        raise KernelError("the kernel changes faster than it can be read", code=errno.EINTR)

    async def request(self, requests: Iterable[Request]) -> dict[int, Refusal]:
        """Make the requests in their order, those after a refused one too; the refusals, by position.

        Requests are taken from the iterable while the kernel works on those before. Raises KernelError where it is not
        known what became of some of them: observe again.
        """
        refused: dict[int, Refusal] = {}
        position = 0
        pending = _Pending(requests)
        async with self._exchange() as channel:
            batch = pending.next(self._batch)
            while batch:
                first = self._next_sequences(len(batch))
                sending = self._start(channel, _packed(batch, first))
                following = pending.next(self._batch)
                await sending
                # Only the last one asks for an acknowledgement: the kernel answers in order, and refusals unasked.
                last, acknowledged = first + len(batch) - 1, False
                while not acknowledged:
                    datagram = await self._receive(channel)
                    for kind, flags, sequence, start, end in messages(datagram):
                        if kind != NLMSG_ERROR or not first <= sequence <= last:
                            continue
                        code, text = error_of(datagram, flags, start, end)
                        if code:
                            refused[position + sequence - first] = Refusal(code, text or os.strerror(code))
                        acknowledged |= sequence == last
                position += len(batch)
                batch = following
        return refused

    def _start(self, channel: socket.socket, data: bytes) -> asyncio.Future[None]:
        """Send in a thread: within `send` the kernel waits for its locks and for RCU, tens of milliseconds at times."""
        self._sending = self._thread.submit(_send, channel, data)
        return asyncio.wrap_future(self._sending)

    def _next_sequences(self, count: int) -> int:
        if self._sequence + count > 0xFFFFFFFF:
            self._sequence = FIRST_SEQUENCE
        first = self._sequence
        self._sequence += count
        return first

    @contextlib.asynccontextmanager
    async def _exchange(self) -> AsyncIterator[socket.socket]:
        async with self._turn:
            finished = False
            try:
                async with asyncio.timeout(self._timeout):
                    yield self._open()
                finished = True
            except TimeoutError:
                raise KernelError("the kernel does not answer", code=errno.ETIMEDOUT) from None
            except OSError as error:
                raise KernelError(error.strerror or str(error), code=error.errno or 0) from None
            finally:
                if not finished:
                    self.close()

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._connect()
            room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self._batch = max(1, min(BATCH, room // REFUSAL_BYTES))
        return self._socket

    async def _receive(self, channel: socket.socket) -> bytes:
        while True:
            try:
                data, _, flags, _ = channel.recvmsg(DATAGRAM)
            except BlockingIOError:
                await _readable(channel)
                continue
            if flags & socket.MSG_TRUNC:
                raise OSError(errno.EMSGSIZE, "a netlink answer was cut off")
            return data


def _send(channel: socket.socket, data: bytes) -> None:
    if channel.send(data) != len(data):
        raise OSError(errno.EMSGSIZE, "a netlink request was cut off")


class _Pending:
    """Requests that were not sent yet."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = iter(requests)
        self._left_over: Request | None = None

    def next(self, limit: int) -> list[Request]:
        """As many as one datagram takes; at least one while there are any."""
        batch: list[Request] = []
        size = 0
        if self._left_over is not None:
            batch.append(self._left_over)
            size = 16 + len(self._left_over[2])
            self._left_over = None
        while len(batch) < limit and (request := next(self._requests, None)) is not None:
            size += 16 + len(request[2])
            if size > BATCH_BYTES and batch:
                self._left_over = request
                break
            batch.append(request)
        return batch


def _packed(requests: Sequence[Request], first: int) -> bytes:
    parts: list[bytes] = []
    last = first + len(requests) - 1
    for sequence, (kind, flags, body) in enumerate(requests, first):
        flags |= NLM_F_REQUEST if sequence != last else NLM_F_REQUEST | NLM_F_ACK
        parts += (HEADER.pack(16 + len(body), kind, flags, sequence, 0), body)
    return b"".join(parts)


def _end_of_dump(datagram: bytes) -> tuple[bool, bool]:
    """Whether a datagram is the last one of a dump, and whether the dump was interrupted.

    Raises KernelError with what the kernel has against it.
    """
    ended = interrupted = False
    for kind, flags, _, start, end in messages(datagram):
        if flags & NLM_F_DUMP_INTR:
            interrupted = True
        if kind == NLMSG_DONE:
            ended = True
            if end - start >= 4 and (code := -I32.unpack_from(datagram, start)[0]) > 0:
                raise KernelError(os.strerror(code), code=code)
        elif kind == NLMSG_ERROR:
            ended = True
            code, text = error_of(datagram, flags, start, end)
            if code:
                raise KernelError(text or os.strerror(code), code=code)
    return ended, interrupted


async def _readable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(channel, wake)
    try:
        await ready
    finally:
        loop.remove_reader(channel)
