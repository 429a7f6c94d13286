"""The kernel asked from an event loop: each exchange runs in a thread, one at a time, over one netlink socket.

The loop has its turn meanwhile, whatever the kernel waits for and however much there is to be read or packed: the
thread lets go of the interpreter with every datagram. A second dump on a socket would be refused (EBUSY). Whatever ends
an exchange early, a cancellation too, gives the socket up, so that no late answer is taken for the next one's.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from overlay_net.adapters.netlink.socket import NetlinkSocket, open_netlink_socket
from overlay_net.model.errors import KernelError

P = ParamSpec("P")
T = TypeVar("T")

SILENCE = 30.0
"""Seconds without a datagram either way after which the kernel is not waited for any longer."""


class Executor:
    """Opens its socket with the first exchange, and again after one that failed.

    ``opened`` is called with each new socket's port, under which the kernel names it in its notifications, and with 0
    before it is let go of: the port may be another program's then.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket] = open_netlink_socket,
        opened: Callable[[int], None] = lambda _: None,
        silence: float = SILENCE,
    ) -> None:
        self._connect = connect
        self._opened = opened
        self._silence = silence
        self._socket: NetlinkSocket | None = None
        self._turn = asyncio.Lock()
        # Starts its thread with the first exchange. One that was given up ends before the next one begins.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")

    def close(self) -> None:
        """Let go of the socket; the next exchange opens another one."""
        if self._socket is not None:
            given_up, self._socket = self._socket, None
            self._opened(0)
            given_up.give_up()
            # A file number that is closed under a thread may be somebody else's by the time the thread uses it.
            self._thread.submit(given_up.close)

    async def do(self, step: Callable[Concatenate[NetlinkSocket, P], T], *args: P.args, **more: P.kwargs) -> T:
        """Run ``step`` with the socket, in the thread. Raises KernelError, and whatever else the step raises."""
        async with self._turn:
            good = False
            try:
                if self._socket is None:
                    self._socket = NetlinkSocket(self._connect())
                    self._opened(self._socket.port)
                result = await self._watched(self._socket, lambda using: step(using, *args, **more))
                good = True
                return result
            except OSError as error:
                raise KernelError(error.strerror or str(error), code=error.errno or 0) from None
            except KernelError:
                # An answer, and the last of it.
                good = True
                raise
            finally:
                if not good:
                    self.close()

    async def _watched(self, using: NetlinkSocket, step: Callable[[NetlinkSocket], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._thread, step, using)
        try:
            seen = using.datagrams
            while True:
                done, _ = await asyncio.wait({running}, timeout=self._silence)
                if done:
                    return running.result()
                if using.datagrams == seen:
                    raise OSError(errno.ETIMEDOUT, "the kernel does not answer")
                seen = using.datagrams
        finally:
            running.cancel()
