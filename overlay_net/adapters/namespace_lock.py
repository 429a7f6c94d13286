"""A lock that one process of a network namespace holds, however many mount and PID namespaces there are.

It is an abstract Unix socket: its name belongs to the network namespace, and the kernel releases it with its process
(unix(7)). The holder never accepts a connection; those of waiting processes end with it.
"""

import asyncio
import errno
import os
import socket
from contextlib import closing
from dataclasses import dataclass
from typing import Final

AGENT: Final = "overlay-net/agent"
RETRY: Final = 0.1
"""Seconds between attempts while the name is taken by a socket that does not listen."""

BACKLOG: Final = 4096
"""Each process that finds the lock taken leaves a connection, which stays in the queue after the process has ended."""

UCRED_SIZE: Final = 12
"""struct ucred: process, user and group, of four bytes each (unix(7))."""


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    """0: a process outside of this PID namespace, such as one in another pod."""
    uid: int | None
    """None: unknown, because the socket does not listen (yet), or too many processes wait."""

    @property
    def is_trusted(self) -> bool:
        """Return whether it may be another agent: any user of the node can take the name of an abstract socket."""
        return self.uid in (0, os.geteuid())


class NamespaceLock:
    def __init__(self, name: str = AGENT) -> None:
        self._name = f"\0{name}"
        self._socket: socket.socket | None = None

    def acquire(self) -> Holder | None:
        """Return None if this process holds the lock now, else its holder. Raises OSError."""
        if self._socket is not None:
            return None
        held = _unix_socket()
        try:
            held.bind(self._name)
            held.listen(BACKLOG)
        except OSError as error:
            held.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return self._find_holder()
        self._socket = held
        return None

    async def wait_for_release(self) -> None:
        """Wait until the process that holds the lock may have ended."""
        with closing(_unix_socket()) as waiting:
            waiting.setblocking(False)
            try:
                waiting.connect(self._name)
                await asyncio.get_running_loop().sock_recv(waiting, 1)
            except ConnectionResetError:
                return
            except OSError:
                # It does not listen yet, or as many processes wait as it allows (EAGAIN).
                await asyncio.sleep(RETRY)

    def close(self) -> None:
        """Release the lock. Idempotent."""
        held, self._socket = self._socket, None
        if held is not None:
            held.close()

    def _find_holder(self) -> Holder:
        with closing(_unix_socket()) as asking:
            asking.setblocking(False)
            try:
                asking.connect(self._name)
            except OSError:
                return Holder(0, None)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED_SIZE)
            pid, uid, _ = memoryview(credentials).cast("I")
            return Holder(pid, uid)


def _unix_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
