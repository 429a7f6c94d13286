"""One socket of NETLINK_ROUTE: requests to the kernel and their answers, for the one thread that waits for them.

The kernel works on a request while it is sent (netlink_unicast_kernel): so `send` takes as long as the work, tens of
milliseconds at times for its locks and for RCU. The answers are there when it returns; waiting for them is the
exception, and ends at once where somebody gives the socket up.
"""

import contextlib
import errno
import os
import select
import socket
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from overlay_net.adapters.netlink.codec import (
    HEADER,
    I32,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    messages,
    parse_error,
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
DUMP_TRIES = 8

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


def open_netlink_socket() -> socket.socket:
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


class NetlinkSocket:
    """Not for two threads at once, but for ``give_up``, which anybody may call."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        room = connected.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._batch = max(1, min(BATCH, room // REFUSAL_BYTES))
        self._sequence = FIRST_SEQUENCE
        self._given_up = os.eventfd(0, os.EFD_CLOEXEC)
        self._ready = select.poll()
        for each in (connected.fileno(), self._given_up):
            self._ready.register(each, select.POLLIN)
        name = connected.getsockname()
        self.port: int = name[0] if isinstance(name, tuple) else 0
        """0 where it is no netlink socket."""
        self.datagrams = 0
        """How many went either way: whoever watches sees that it goes on."""

    def give_up(self) -> None:
        """What is being exchanged ends with ECANCELED before its next datagram, and so does all that is asked later."""
        os.eventfd_write(self._given_up, 1)

    def close(self) -> None:
        self._socket.close()
        os.close(self._given_up)

    def dump(self, kind: int, body: bytes, known: Container[bytes] = ()) -> list[bytes]:
        """The datagrams that answer a dump request, the last one included. Raises KernelError and OSError.

        ``known`` are datagrams of an earlier answer, but for its last one: there is no need to look into them again.
        A dump during which something changed (NLM_F_DUMP_INTR) is read again; ENOBUFS means that some of it was lost.
        """
        header = HEADER.pack(16 + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, DUMP_SEQUENCE, 0)
        for _ in range(DUMP_TRIES):
            self._send(header + body)
            datagrams: list[bytes] = []
            interrupted = ended = False
            while not ended:
                datagram = self._receive()
                datagrams.append(datagram)
                if datagram not in known:
                    ended, cut = _end_of_dump(datagram)
                    interrupted |= cut
            if not interrupted:
                return datagrams
        raise KernelError("the kernel changes faster than it can be read", code=errno.EINTR)

    def request(self, requests: Iterable[Request]) -> dict[int, Refusal]:
        """Make the requests in their order, those after a refused one too; the refusals, by position.

        Raises OSError where it is not known what became of some of them: observe again.
        """
        refused: dict[int, Refusal] = {}
        position = 0
        for batch in _batches(requests, self._batch):
            first = self._next_sequences(len(batch))
            self._send(_packed(batch, first))
            # Only the last one asks for an acknowledgement: the kernel answers in order, and refusals unasked.
            last, acknowledged = first + len(batch) - 1, False
            while not acknowledged:
                datagram = self._receive()
                for kind, flags, sequence, start, end in messages(datagram):
                    if kind != NLMSG_ERROR or not first <= sequence <= last:
                        continue
                    code, text = parse_error(datagram, flags, start, end)
                    if code:
                        refused[position + sequence - first] = Refusal(code, text or os.strerror(code))
                    acknowledged |= sequence == last
            position += len(batch)
        return refused

    def _next_sequences(self, count: int) -> int:
        if self._sequence + count > 0xFFFFFFFF:
            self._sequence = FIRST_SEQUENCE
        first = self._sequence
        self._sequence += count
        return first

    def _send(self, data: bytes) -> None:
        self._check(timeout=0)
        if self._socket.send(data) != len(data):
            raise OSError(errno.EMSGSIZE, "a netlink request was cut off")
        self.datagrams += 1

    def _receive(self) -> bytes:
        while True:
            try:
                data, _, flags, _ = self._socket.recvmsg(DATAGRAM)
            except BlockingIOError:
                self._check(timeout=None)
                continue
            if flags & socket.MSG_TRUNC:
                raise OSError(errno.EMSGSIZE, "a netlink answer was cut off")
            self.datagrams += 1
            return data

    def _check(self, timeout: int | None) -> None:
        """Wait for an answer that long. Raises OSError where the socket was given up."""
        if any(ready == self._given_up for ready, _ in self._ready.poll(timeout)):
            raise OSError(errno.ECANCELED, "the exchange was given up")


def _batches(requests: Iterable[Request], limit: int) -> Iterator[list[Request]]:
    """As many at a time as one datagram takes."""
    waiting = iter(requests)
    while batch := list(islice(waiting, limit)):
        yield from _fitting(batch)


def _fitting(batch: list[Request]) -> Iterator[list[Request]]:
    if len(batch) == 1 or sum(HEADER.size + len(body) for _, _, body in batch) <= BATCH_BYTES:
        yield batch
    else:
        half = len(batch) // 2
        yield from _fitting(batch[:half])
        yield from _fitting(batch[half:])


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
            code, text = parse_error(datagram, flags, start, end)
            if code:
                raise KernelError(text or os.strerror(code), code=code)
    return ended, interrupted
