"""pyroute2 in the netlink thread: changes by its calls, and dumps by its requests, one at a time.

pyroute2 sends on its event loop, and the kernel may take tens of milliseconds for a request (see bulk.socket), so it
has a loop of its own in that thread, which uvloop cannot be (pyroute2#1335).
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Container, Coroutine, Iterator, Set
from typing import Any, Literal, TypeVar

from overlay_net.adapters.netlink.bulk.codec import (
    HEADER,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    messages,
    parse_done,
)
from overlay_net.adapters.netlink.bulk.socket import DUMP_SEQUENCE, DUMP_TRIES, open_netlink_socket
from overlay_net.adapters.netlink.pyroute2_parts import (
    NLM_F_DUMP,
    NLM_F_MULTI,
    NLM_F_REQUEST,
    AsyncIPRoute,
    MarshalRtnl,
    NetlinkDecodeError,
    NetlinkError,
    NetlinkRequest,
)
from overlay_net.model.errors import KernelError

T = TypeVar("T")

Message = dict[str, Any]
"""A message of pyroute2."""


def open_route_socket() -> socket.socket:
    """Open a socket for IpRoute in the network namespace of the calling thread."""
    # asyncio has transports for datagram sockets only, and pyroute2 reads the text of an error after the whole request.
    return open_netlink_socket(kind=socket.SOCK_DGRAM, capped=False)


class IpRoute:
    """Not thread-safe, except for ``abort``. All other methods must be called in the same thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        name = connection.getsockname()
        self.ports: Set[int] = frozenset(name[:1]) if isinstance(name, tuple) else frozenset()
        """The netlink port; empty for any other kind of socket."""
        self._loop = asyncio.SelectorEventLoop()
        self._route: _Route | None = None
        self._dumps: dict[tuple[Callable[[], Message], int], _RawRequest] = {}
        """The requests for dumps, which are encoded once: that takes a third of a small dump."""
        self._task: asyncio.Task[Any] | None = None
        self._aborted = False
        self._sent = 0

    @property
    def datagrams(self) -> int:
        """Requests sent and datagrams received so far, to measure progress."""
        return self._sent + (self._route.received if self._route is not None else 0)

    def abort(self) -> None:
        """End the current request and every later one with ECANCELED."""
        self._aborted = True
        self._loop.call_soon_threadsafe(self._cancel)

    def close(self) -> None:
        if self._route is not None:
            self._route.close()
            # The transport of the socket is closed by the event loop.
            self._loop.run_until_complete(asyncio.sleep(0))
        self._socket.close()
        self._loop.close()

    def change(
        self,
        method: Literal["link", "addr", "rule", "route"],
        command: str,
        ignored: Container[int] = (),
        /,
        **attributes: object,
    ) -> None:
        """Call a method of AsyncIPRoute.

        Raises KernelError, except for the error numbers in ``ignored``, and OSError.
        """
        try:
            self._run(lambda route: getattr(route, method)(command, **attributes))
        except KernelError as error:
            if error.code not in ignored:
                raise

    def get(self, message: Message, kind: int) -> bytes:
        """Request one object. Returns the datagram of the answer. Raises KernelError and OSError."""
        # Without an acknowledgement, which pyroute2 would not read after the answer.
        (datagram,), _ = self._run(lambda route: _RawRequest(route, message, kind, NLM_F_REQUEST).ask())
        return datagram

    def dump(self, message: Callable[[], Message], kind: int, known: Container[bytes] = ()) -> list[bytes]:
        """Request a dump. Returns the datagrams of the answer, including the last one. Raises KernelError and OSError.

        ``known`` contains the datagrams of an earlier answer except its last one; they are not parsed again. A dump
        during which the state changed (NLM_F_DUMP_INTR) is repeated: pyroute2 does not report it.
        """
        for _ in range(DUMP_TRIES):
            datagrams, is_interrupted = self._run(lambda route: self._find_dump(route, message, kind).ask(known))
            if not is_interrupted:
                return datagrams
        raise KernelError("the kernel state changed during every dump", code=errno.EINTR)

    def _find_dump(self, route: "_Route", message: Callable[[], Message], kind: int) -> "_RawRequest":
        found = self._dumps.get((message, kind))
        if found is None:
            found = _RawRequest(route, message(), kind, NLM_F_REQUEST | NLM_F_DUMP)
            self._dumps[message, kind] = found
        return found

    def _run(self, request: Callable[["_Route"], Coroutine[Any, Any, T]]) -> T:
        if self._aborted:
            raise OSError(errno.ECANCELED, "netlink exchange aborted")
        self._sent += 1
        self._task = self._loop.create_task(self._call(request))
        try:
            result: T = self._loop.run_until_complete(self._task)
            return result
        except asyncio.CancelledError:
            raise self._reason() from None
        except NetlinkError as error:
            code, text = error.args
            raise KernelError(text, code=code) from None
        except NetlinkDecodeError as error:
            raise OSError(errno.EBADMSG, f"netlink answer not understood: {error.exception}") from None
        finally:
            self._task = None

    async def _call(self, request: Callable[["_Route"], Coroutine[Any, Any, T]]) -> T:
        if self._route is None:
            self._route = _Route(self._socket, self._loop, failed=self._cancel)
            self._route.set_marshal(_Marshal())
            await self._route.setup_endpoint()
        return await request(self._route)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _reason(self) -> OSError:
        failure = None if self._route is None else self._route.failure
        return failure or OSError(errno.ECANCELED, "netlink exchange aborted")


class _Route(AsyncIPRoute):  # type: ignore[misc]
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


class _Marshal(MarshalRtnl):  # type: ignore[misc]
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


class _RawRequest(NetlinkRequest):  # type: ignore[misc]
    """A request whose answer stays in datagrams.

    pyroute2 takes 0.4 ms to decode a link, and a node with many pods has hundreds.
    """

    def __init__(self, route: _Route, message: Message, kind: int, flags: int) -> None:
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
