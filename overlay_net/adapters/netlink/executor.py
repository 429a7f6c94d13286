"""Runs netlink exchanges for an event loop: in a thread, one at a time, over the same sockets.

The event loop is never blocked, however long the kernel takes and however much is read or encoded: the thread releases
the GIL with every datagram. Exchanges are serial, as the kernel refuses a second dump on a socket (EBUSY). An exchange
that is cancelled or fails discards the sockets, so that the next one does not receive late answers.
"""

import asyncio
import errno
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar

from overlay_net.model.errors import KernelError

P = ParamSpec("P")
T = TypeVar("T")

SILENCE = 30.0
"""Seconds without a datagram in either direction after which an exchange times out."""


class Sockets(Protocol):
    @property
    def ports(self) -> Set[int]: ...

    @property
    def datagrams(self) -> int:
        """Datagrams sent and received so far, to measure progress."""

    def abort(self) -> None:
        """End the current exchange, and every later one; called in another thread than the exchanges."""

    def close(self) -> None: ...


S = TypeVar("S", bound=Sockets)


class Executor(Generic[S]):
    """Opens its sockets on the first exchange, and again after a failed one.

    ``opened`` is called with the ports of the open sockets, which identify them in notifications: after they were
    opened and before they are closed, because another process may get the ports afterwards.
    """

    def __init__(
        self,
        connect: Callable[[], S],
        opened: Callable[[Set[int]], None] = lambda _: None,
        silence: float = SILENCE,
    ) -> None:
        self._connect = connect
        self._opened = opened
        self._silence = silence
        self._sockets: S | None = None
        self._exclusive = asyncio.Lock()
        # The thread starts with the first exchange. An aborted exchange ends before the next one begins.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")

    def close(self) -> None:
        """Discard the sockets; the next exchange opens others."""
        if self._sockets is not None:
            discarded, self._sockets = self._sockets, None
            self._opened(frozenset())
            discarded.abort()
            # Close them in the thread, which could otherwise use a descriptor after it was assigned to another file.
            self._thread.submit(discarded.close)

    async def run(self, exchange: Callable[Concatenate[S, P], T], *args: P.args, **more: P.kwargs) -> T:
        """Run ``exchange`` with the sockets in the thread. Raises KernelError and whatever ``exchange`` raises."""
        async with self._exclusive:
            complete = False
            try:
                if self._sockets is None:
                    self._sockets = self._connect()
                    self._opened(self._sockets.ports)
                result = await self._in_thread(self._sockets, lambda sockets: exchange(sockets, *args, **more))
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

    async def _in_thread(self, sockets: S, exchange: Callable[[S], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._thread, exchange, sockets)
        try:
            progress = sockets.datagrams
            while True:
                done, _ = await asyncio.wait({running}, timeout=self._silence)
                if done:
                    return running.result()
                if sockets.datagrams == progress:
                    raise OSError(errno.ETIMEDOUT, "the kernel does not answer")
                progress = sockets.datagrams
        finally:
            running.cancel()
