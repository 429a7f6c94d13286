"""Requests of pyroute2 whose answers stay in datagrams: decoding takes it 0.4 ms a link, and a node has hundreds."""

import asyncio
import os
import socket
from collections.abc import Callable, Container, Iterator
from typing import Any

from overlay_net.adapters.netlink.bulk.codec import (
    HEADER,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    messages,
    parse_done,
)
from overlay_net.adapters.netlink.bulk.socket import DUMP_SEQUENCE
from overlay_net.adapters.netlink.pyroute2_parts import NLM_F_MULTI, AsyncIPRoute, MarshalRtnl, NetlinkRequest
from overlay_net.model.errors import KernelError

Message = dict[str, Any]
"""A message of pyroute2."""


class RouteSocket(AsyncIPRoute):  # type: ignore[misc]
    """``failed`` is called when the socket has failed, for example with ENOBUFS: pyroute2 would wait for the answer."""

    def __init__(
        self, connection: socket.socket, loop: asyncio.AbstractEventLoop, failed: Callable[[], object]
    ) -> None:
        super().__init__(use_socket=connection, use_event_loop=loop)
        # Otherwise each change of a link is searched for a tun device, which is made in another way.
        self.request_proxy = None
        self.received = 0
        self._failed = failed

    @property
    def failure(self) -> OSError | None:
        error: OSError | None = self.status.get("error")
        return error

    def enqueue(self, data: bytes, addr: object) -> None:
        self.received += 1
        super().enqueue(data, addr)
        if self.failure is not None:
            self._failed()


class RawMarshal(MarshalRtnl):  # type: ignore[misc]
    """Passes whole datagrams to a request that has a parser."""

    def parse(
        self,
        data: bytes,
        seq: int | None = None,
        callback: Callable[..., object] | None = None,
        skip_alien_seq: bool = False,
    ) -> Iterator[Message]:
        keep = self.seq_map.get(seq)
        if keep is None:
            yield from super().parse(data, seq, callback, skip_alien_seq)
        else:
            yield keep(data, 0, len(data))


class RawRequest(NetlinkRequest):  # type: ignore[misc]
    """A request whose answer stays in datagrams."""

    def __init__(self, route: RouteSocket, message: Message, kind: int, flags: int) -> None:
        # With a constant number, two dumps of the same kernel state are equal byte for byte.
        super().__init__(route, message, msg_type=kind, msg_flags=flags, msg_seq=DUMP_SEQUENCE)
        self._known: Container[bytes] = ()
        self._datagrams: list[bytes] = []
        self._interrupted = False

    async def ask(self, known: Container[bytes] = ()) -> tuple[list[bytes], bool]:
        """Send the request. Returns the datagrams of the answer, and whether it was interrupted.

        ``known`` has datagrams that need not be parsed again.
        """
        self._known, self._datagrams, self._interrupted = known, [], False
        try:
            await self.send()
            async for _ in self.response():
                pass
            return self._datagrams, self._interrupted
        finally:
            self._known, self._datagrams = (), []

    async def prepare(self) -> None:
        """Unlike in pyroute2, a message is encoded once."""
        if not self.msg.data:
            await super().prepare()
        self.sock.msg_queue.ensure_tag(self.msg_seq)
        self.marshal.seq_map[self.msg_seq] = self._keep

    def cleanup(self) -> None:
        """Unlike in pyroute2, the sequence number does not return to the pool that it is not from."""
        self.sock.msg_queue.free_tag(self.msg_seq)
        self.marshal.seq_map.pop(self.msg_seq, None)

    def _keep(self, datagram: bytes, _offset: int, _length: int) -> Message:
        """Return the message that stands for the datagram: the end or the refusal, or any other one."""
        self._datagrams.append(datagram)
        flags = NLM_F_MULTI
        if datagram not in self._known:
            for kind, flags, sequence, start, end in messages(datagram):
                self._interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind == NLMSG_ERROR:
                    head = start - HEADER.size
                    refusal: Message = self.marshal.parse_one_message(kind, flags, sequence, datagram, head, end - head)
                    return refusal
                if kind == NLMSG_DONE:
                    # pyroute2 ignores it.
                    if code := parse_done(datagram, start, end):
                        raise KernelError(os.strerror(code), code=code)
                    return _stand_in(NLMSG_DONE, flags)
        return _stand_in(0, flags)


def _stand_in(kind: int, flags: int) -> Message:
    return {"header": {"type": kind, "flags": flags, "error": None}}
