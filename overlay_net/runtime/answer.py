"""Waits for an answer on a socket; one that has arrived by the timeout counts, however busy the event loop was."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LAST_READS: Final = 1024
"""Maximum number of reads after the timeout, as other packets may be in front of the answer."""


async def wait_for_answer(
    peer: socket.socket, read: Callable[[], T | None], timeout: float, *, writable: bool = False
) -> T | None:
    """Call ``read`` whenever the socket is readable (or writable) until it returns an answer. None: no answer in time.

    ``read`` returns None for something else, and raises BlockingIOError if there is nothing to read. Any other OSError
    ends waiting and is raised. ``asyncio.timeout`` would drop an answer that arrives in the same iteration of the event
    loop, as happens if the loop was blocked until after the timeout.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def attempt() -> bool:
        """Read once; return whether there may be more to read."""
        if answer.done():
            return False
        try:
            found = read()
        except BlockingIOError:
            return False
        except OSError as error:
            answer.set_exception(error)
            return False
        if found is not None:
            answer.set_result(found)
        return True

    add, remove = (loop.add_writer, loop.remove_writer) if writable else (loop.add_reader, loop.remove_reader)
    add(peer, attempt)
    try:
        await asyncio.wait([answer], timeout=timeout)
        for _ in range(LAST_READS):
            if not attempt():
                break
        return answer.result() if answer.done() else None
    finally:
        remove(peer)
        if not answer.cancel() and not answer.cancelled():
            # Retrieve the error, so that asyncio does not log it after a cancellation.
            answer.exception()
