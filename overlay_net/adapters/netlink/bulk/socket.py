"""One netlink socket: sends requests to the kernel and receives the answers, in one blocking thread.

The kernel processes a request inside ``send`` (netlink_unicast_kernel), which therefore takes as long as the work:
sometimes tens of milliseconds, for locks and RCU. The answers are normally available when ``send`` returns. A wait for
them ends at once when another thread aborts the exchange.
"""

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Container, Iterable, Iterator, Set
from dataclasses import dataclass
from typing import TypeVar

from overlay_net.adapters.netlink.bulk.batches import Request, encode_batch, split_batches
from overlay_net.adapters.netlink.bulk.codec import (
    HEADER,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    messages,
    parse_done,
    parse_error,
)
from overlay_net.model.errors import KernelError

T = TypeVar("T")

BATCH = 256
"""Messages in one send. The receive buffer must have room for an answer to each of them."""
ANSWER_BYTES = 2048
"""Maximum size of one answer in the receive buffer, including the kernel's overhead (skb->truesize)."""
RECEIVE_BUFFER = 4 * 2**20
DATAGRAM = 64 * 1024
"""Receive size in bytes; the kernel sends at most 32 KiB (netlink_dump), and single messages are far smaller."""
DUMP_TRIES = 8

SO_RCVBUFFORCE = 33
# linux/socket.h, linux/netlink.h
SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12

NOT_FOUND = frozenset({errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT})
"""Errors for the deletion of an object that does not exist."""

DUMP_SEQUENCE = 1
"""Constant, so that two dumps of the same kernel state are equal byte for byte."""
FIRST_SEQUENCE = 2


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the kernel refused a request: the positive errno, and the kernel's message or that of the errno."""

    code: int
    text: str


def set_receive_buffer(connection: socket.socket, size: int) -> None:
    try:
        connection.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        # Not root in the initial user namespace: net.core.rmem_max limits the size.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def open_netlink_socket(
    protocol: int = socket.NETLINK_ROUTE, kind: int = socket.SOCK_RAW, *, capped: bool = True
) -> socket.socket:
    """Open a socket in the network namespace of the calling thread.

    ``capped``: refusals do not contain a copy of the request.
    """
    connection = socket.socket(socket.AF_NETLINK, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        set_receive_buffer(connection, RECEIVE_BUFFER)
        for option in (*([NETLINK_CAP_ACK] if capped else []), NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            # Kernels before 4.20 lack some options: refusals then have only an errno, and the decoder filters dumps.
            with contextlib.suppress(OSError):
                connection.setsockopt(SOL_NETLINK, option, 1)
        connection.bind((0, 0))
    except BaseException:
        connection.close()
        raise
    return connection


def _checks_strictly(connection: socket.socket) -> bool:
    try:
        return connection.getsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK) != 0
    except OSError:
        return False


class NetlinkSocket:
    """Not thread-safe, except for ``abort``, which any thread may call."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        receive_buffer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._batch = max(1, min(BATCH, receive_buffer // ANSWER_BYTES))
        self._sequence = FIRST_SEQUENCE
        self._aborted = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll = select.poll()
        for each in (connection.fileno(), self._aborted):
            self._poll.register(each, select.POLLIN)
        name = connection.getsockname()
        self.ports: Set[int] = frozenset(name[:1]) if isinstance(name, tuple) else frozenset()
        """The netlink port; none for any other kind of socket."""
        self.filters_dumps = _checks_strictly(connection)
        """Whether the kernel applies the filter of a dump of routes (Linux 4.20); otherwise it sends all of them."""
        self.datagrams = 0
        """Datagrams sent and received so far, to measure progress."""

    def abort(self) -> None:
        """End the current exchange before its next datagram, and every later one, with ECANCELED."""
        os.eventfd_write(self._aborted, 1)

    def close(self) -> None:
        self._socket.close()
        os.close(self._aborted)

    def dump(self, kind: int, body: bytes, known: Container[bytes] = ()) -> list[bytes]:
        """Request a dump. Returns the datagrams of the answer, including the last one. Raises KernelError and OSError.

        ``known`` contains the datagrams of an earlier answer except its last one; they are not parsed again. A dump
        during which the state changed (NLM_F_DUMP_INTR) is repeated. ENOBUFS means that datagrams were lost.
        """
        return self.dump_parsed(kind, body, lambda datagram: (datagram,), known)

    def dump_parsed(
        self, kind: int, body: bytes, parse: Callable[[bytes], Iterable[T]], known: Container[bytes] = ()
    ) -> list[T]:
        """Request a dump like ``dump``, of which only the results of ``parse`` for each datagram are kept."""
        header = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, DUMP_SEQUENCE, 0)
        for _ in range(DUMP_TRIES):
            self._send(header + body)
            found: list[T] = []
            interrupted = ended = False
            while not ended:
                datagram = self._receive()
                if datagram not in known:
                    ended, inconsistent = _end_of_dump(datagram)
                    interrupted |= inconsistent
                found += parse(datagram)
            if not interrupted:
                return found
        raise KernelError("the kernel state changed during every dump", code=errno.EINTR)

    def request(self, requests: Iterable[Request]) -> dict[int, Refusal]:
        """Send the requests in order, including those after a refused one. Returns the refusals by position.

        Raises OSError if the outcome of some requests is unknown: observe the kernel again.
        """
        return {position: answer for position, answer in self._exchange(requests) if isinstance(answer, Refusal)}

    def query(self, requests: Iterable[Request]) -> dict[int, bytes]:
        """Send requests that are answered with one message each. Returns the bodies of the answers by position.

        The position of a refused request is missing. Raises OSError.
        """
        return {position: answer for position, answer in self._exchange(requests) if isinstance(answer, bytes)}

    def _exchange(self, requests: Iterable[Request]) -> Iterator[tuple[int, Refusal | bytes]]:
        position = 0
        for batch in split_batches(requests, self._batch):
            first = self._next_sequences(len(batch))
            self._send(encode_batch(batch, first))
            for sequence, answer in self._answers(first, last=first + len(batch) - 1):
                yield position + sequence - first, answer
            position += len(batch)

    def _answers(self, first: int, last: int) -> Iterator[tuple[int, Refusal | bytes]]:
        """Yield refusals and answers to requests with these sequence numbers until the last one is acknowledged."""
        acknowledged = False
        while not acknowledged:
            datagram = self._receive()
            for kind, flags, sequence, start, end in messages(datagram):
                if not first <= sequence <= last:
                    continue
                if kind != NLMSG_ERROR:
                    yield sequence, datagram[start:end]
                    continue
                code, text = parse_error(datagram, flags, start, end)
                if code:
                    yield sequence, Refusal(code, text or os.strerror(code))
                acknowledged |= sequence == last

    def _next_sequences(self, count: int) -> int:
        if self._sequence + count > 0xFFFFFFFF:
            self._sequence = FIRST_SEQUENCE
        first = self._sequence
        self._sequence += count
        return first

    def _send(self, data: bytes) -> None:
        self._check(timeout=0)
        if self._socket.send(data) != len(data):
            raise OSError(errno.EMSGSIZE, "netlink request truncated")
        self.datagrams += 1

    def _receive(self) -> bytes:
        while True:
            try:
                data, _, flags, _ = self._socket.recvmsg(DATAGRAM)
            except BlockingIOError:
                self._check(timeout=None)
                continue
            if flags & socket.MSG_TRUNC:
                raise OSError(errno.EMSGSIZE, "netlink answer truncated")
            self.datagrams += 1
            return data

    def _check(self, timeout: int | None) -> None:
        """Wait for an answer for ``timeout`` milliseconds; None waits forever. Raises OSError after ``abort``."""
        if any(ready == self._aborted for ready, _ in self._poll.poll(timeout)):
            raise OSError(errno.ECANCELED, "netlink exchange aborted")


def _end_of_dump(datagram: bytes) -> tuple[bool, bool]:
    """Return whether a datagram is the last one of a dump, and whether the dump was interrupted.

    Raises KernelError if the kernel refused the dump.
    """
    ended = interrupted = False
    for kind, flags, _, start, end in messages(datagram):
        if flags & NLM_F_DUMP_INTR:
            interrupted = True
        if kind == NLMSG_DONE:
            ended = True
            if code := parse_done(datagram, start, end):
                raise KernelError(os.strerror(code), code=code)
        elif kind == NLMSG_ERROR:
            ended = True
            code, text = parse_error(datagram, flags, start, end)
            if code:
                raise KernelError(text or os.strerror(code), code=code)
    return ended, interrupted
