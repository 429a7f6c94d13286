"""Runs netlink exchanges for an event loop: in a thread, one at a time, over one socket.

The event loop is never blocked, however long the kernel takes and however much is read or encoded: the thread releases
the GIL with every datagram. Exchanges are serial, as the kernel refuses a second dump on a socket (EBUSY). An exchange
that is cancelled or fails discards the socket, so that the next one does not receive late answers.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket, open_netlink_socket
from overlay_net.model.errors import KernelError

P = ParamSpec("P")
T = TypeVar("T")

SILENCE = 30.0
"""Seconds without a datagram in either direction after which an exchange times out."""


class Executor:
    """Opens its socket on the first exchange, and again after a failed one.

    ``opened`` is called with the ports of the open sockets, which identify them in notifications: after a socket was
    opened and before it is closed, because another process may get the port afterwards.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket] = open_netlink_socket,
        opened: Callable[[Set[int]], None] = lambda _: None,
        silence: float = SILENCE,
    ) -> None:
        self._connect = connect
        self._opened = opened
        self._silence = silence
        self._socket: NetlinkSocket | None = None
        self._exclusive = asyncio.Lock()
        # The thread starts with the first exchange. An aborted exchange ends before the next one begins.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")

    def close(self) -> None:
        """Discard the socket; the next exchange opens another one."""
        if self._socket is not None:
            discarded, self._socket = self._socket, None
            self._opened(frozenset())
            discarded.abort()
            # Close it in the thread, which could otherwise use the descriptor after it was assigned to another file.
            self._thread.submit(discarded.close)

    async def run(self, exchange: Callable[Concatenate[NetlinkSocket, P], T], *args: P.args, **more: P.kwargs) -> T:
        """Run ``exchange`` with the socket in the thread. Raises KernelError and whatever ``exchange`` raises."""
        async with self._exclusive:
            complete = False
            try:
                if self._socket is None:
                    self._socket = NetlinkSocket(self._connect())
                    self._opened({self._socket.port})
                result = await self._in_thread(self._socket, lambda kernel: exchange(kernel, *args, **more))
                complete = True
                return result
            except OSError as error:
                raise KernelError(error.strerror or str(error), code=error.errno or 0) from None
            except KernelError:
                # The kernel refused the request, so the answer is complete.
                complete = True
                raise
            finally:
                if not complete:
                    self.close()

    async def _in_thread(self, kernel: NetlinkSocket, exchange: Callable[[NetlinkSocket], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._thread, exchange, kernel)
        try:
            progress = kernel.datagrams
            while True:
                done, _ = await asyncio.wait({running}, timeout=self._silence)
                if done:
                    return running.result()
                if kernel.datagrams == progress:
                    raise OSError(errno.ETIMEDOUT, "the kernel does not answer")
                progress = kernel.datagrams
        finally:
            running.cancel()
