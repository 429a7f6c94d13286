"""The kernel's end of netlink sockets, which answers each request with the next line of a script."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest

DUMP_SEQUENCE = 1
MULTI, INTERRUPTED, CAPPED, TLVS = 0x2, 0x10, 0x100, 0x200
ERROR, DONE, NEW_ROUTE, GET_ROUTE = 2, 3, 24, 26


def message(kind: int, body: bytes, *, flags: int = MULTI, sequence: int = DUMP_SEQUENCE) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def done(code: int = 0, flags: int = MULTI) -> bytes:
    return message(DONE, struct.pack("=i", -code), flags=flags)


def refusal(code: int, sequence: int, text: bytes = b"") -> bytes:
    """NLMSG_ERROR as with NETLINK_CAP_ACK and NETLINK_EXT_ACK; a code of 0 acknowledges."""
    attribute = struct.pack("=HH", 5 + len(text), 1) + text + b"\0" if text else b""
    body = struct.pack("=iIHHII", -code, 100, NEW_ROUTE, 0, sequence, 0) + attribute + bytes(-len(attribute) & 3)
    return message(ERROR, body, flags=CAPPED | (TLVS if text else 0), sequence=sequence)


Line: TypeAlias = list[bytes] | Callable[[bytes], list[bytes]]
"""The datagrams of an answer, or what makes them from the request."""


class Script:
    """The kernel's end of the sockets of one executor."""

    def __init__(self, *lines: Line, kind: int = socket.SOCK_SEQPACKET) -> None:
        self.lines = list(lines)
        self._kind = kind
        self.requests: list[bytes] = []
        self.opened = 0
        self._ends: list[socket.socket] = []

    def connect(self) -> socket.socket:
        our_end, kernel_end = socket.socketpair(socket.AF_UNIX, self._kind)
        our_end.setblocking(False)
        kernel_end.setblocking(False)
        self._ends.append(kernel_end)
        self.opened += 1
        asyncio.get_running_loop().add_reader(kernel_end, self._answer, kernel_end)
        return our_end

    def _answer(self, end: socket.socket) -> None:
        request = end.recv(2**20)
        if not request:
            asyncio.get_running_loop().remove_reader(end)
            return
        self.requests.append(request)
        line = self.lines.pop(0)
        for datagram in line if isinstance(line, list) else line(request):
            end.send(datagram)

    def send(self, datagram: bytes) -> None:
        self._ends[-1].send(datagram)

    def close(self) -> None:
        while self._ends:
            end = self._ends.pop()
            asyncio.get_running_loop().remove_reader(end)
            end.close()


@pytest.fixture
async def script() -> AsyncIterator[Callable[..., Script]]:
    made: list[Script] = []

    def make(*lines: Line, kind: int = socket.SOCK_SEQPACKET) -> Script:
        made.append(Script(*lines, kind=kind))
        return made[-1]

    yield make
    for each in made:
        each.close()
