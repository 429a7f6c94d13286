"""pyroute2 in the netlink thread: changes by its calls, and dumps by its requests, one at a time.

pyroute2 sends on its event loop, and the kernel may take tens of milliseconds for a request (see bulk.socket), so it
has a loop of its own in that thread, which uvloop cannot be (pyroute2#1335).
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Container, Coroutine, Set
from typing import Any, Literal, TypeVar

from overlay_net.adapters.netlink.bulk.socket import DUMP_TRIES, open_netlink_socket
from overlay_net.adapters.netlink.pyroute2_parts import NLM_F_DUMP, NLM_F_REQUEST, NetlinkDecodeError, NetlinkError
from overlay_net.adapters.netlink.raw_requests import Message, RawMarshal, RawRequest, RouteSocket
from overlay_net.model.errors import KernelError

T = TypeVar("T")


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
        self._route: RouteSocket | None = None
        self._dumps: dict[tuple[Callable[[], Message], int], RawRequest] = {}
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
        (datagram,), _ = self._run(lambda route: RawRequest(route, message, kind, NLM_F_REQUEST).ask())
        return datagram

    def dump(self, message: Callable[[], Message], kind: int, known: Container[bytes] = ()) -> list[bytes]:
        """Request a dump. Returns the datagrams of the answer, including the last one. Raises KernelError and OSError.

        ``known`` contains the datagrams of an earlier answer except its last one; they are not parsed again. A dump
        during which the state changed (NLM_F_DUMP_INTR) is repeated: pyroute2 does not report it.
        """
        return self._dump(lambda route: self._find_dump(route, message, kind).ask(known))

    def dump_once(self, message: Message, kind: int) -> list[bytes]:
        """Request a dump like ``dump``, by a message that is seldom the same. Raises KernelError and OSError."""
        return self._dump(lambda route: RawRequest(route, message, kind, NLM_F_REQUEST | NLM_F_DUMP).ask())

    def _dump(self, request: Callable[[RouteSocket], Coroutine[Any, Any, tuple[list[bytes], bool]]]) -> list[bytes]:
        for _ in range(DUMP_TRIES):
            datagrams, is_interrupted = self._run(request)
            if not is_interrupted:
                return datagrams
        raise KernelError("the kernel state changed during every dump", code=errno.EINTR)

    def _find_dump(self, route: RouteSocket, message: Callable[[], Message], kind: int) -> RawRequest:
        found = self._dumps.get((message, kind))
        if found is None:
            found = RawRequest(route, message(), kind, NLM_F_REQUEST | NLM_F_DUMP)
            self._dumps[message, kind] = found
        return found

    def _run(self, request: Callable[[RouteSocket], Coroutine[Any, Any, T]]) -> T:
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

    async def _call(self, request: Callable[[RouteSocket], Coroutine[Any, Any, T]]) -> T:
        if self._route is None:
            self._route = RouteSocket(self._socket, self._loop, failed=self._cancel)
            self._route.set_marshal(RawMarshal())
            await self._route.setup_endpoint()
        return await request(self._route)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _reason(self) -> OSError:
        failure = None if self._route is None else self._route.failure
        return failure or OSError(errno.ECANCELED, "netlink exchange aborted")
