"""Waiting for an answer on a socket, also on an event loop that is blocked until after the timeout."""

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from overlay_net.runtime.answer import LAST_READS, wait_for_answer

BLOCKED = 0.05
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class Peer:
    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)

    def read(self) -> bytes | None:
        """An answer ends with an exclamation mark."""
        data = self.ours.recv(64)
        return data if data.endswith(b"!") else None

    async def ask(self, timeout: float) -> bytes | None:
        return await wait_for_answer(self.ours, self.read, timeout)


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    with found.ours, found.theirs:
        yield found


@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("others", [0, 1, 8])
def test_an_answer_that_arrived_while_the_event_loop_was_blocked_counts(
    peer: Peer, loop_factory: Callable[[], asyncio.AbstractEventLoop], others: int
) -> None:
    async def main() -> bytes | None:
        asking = asyncio.create_task(peer.ask(BLOCKED / 5))
        await asyncio.sleep(0)
        for _ in range(others):
            peer.theirs.send(b"?")
        peer.theirs.send(b"answer!")
        time.sleep(BLOCKED)  # noqa: ASYNC251
        return await asking

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == b"answer!"


async def test_without_an_answer_nothing_is_returned(peer: Peer) -> None:
    peer.theirs.send(b"?")
    assert await peer.ask(0.01) is None


async def test_a_flood_of_other_packets_ends_at_the_timeout(peer: Peer) -> None:
    reads = 0

    def read() -> bytes | None:
        nonlocal reads
        reads += 1
        return None

    assert await wait_for_answer(peer.ours, read, 0.0) is None
    assert reads <= LAST_READS


async def test_an_error_of_the_socket_is_raised(peer: Peer) -> None:
    def fail() -> None:
        raise OSError(errno.ENETDOWN, "down")

    peer.theirs.send(b"?")
    with pytest.raises(OSError, match="down"):
        await wait_for_answer(peer.ours, fail, 10)


@pytest.mark.parametrize("turns", range(4))
async def test_after_a_cancellation_the_socket_is_no_longer_read(peer: Peer, turns: int) -> None:
    asking = asyncio.create_task(peer.ask(10))
    await asyncio.sleep(0)
    peer.theirs.send(b"answer!")
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    peer.theirs.send(b"next!")
    assert await peer.ask(10) is not None
