"""Packed netlink exchanges with a scripted kernel that is slow, silent or changing."""

import asyncio
import errno
import os
import struct
from collections.abc import Callable

import pytest

from overlay_net.adapters.netlink.bulk.socket import BATCH, DUMP_TRIES, NetlinkSocket
from overlay_net.adapters.netlink.executor import Executor
from overlay_net.model.errors import KernelError
from tests.fakes.netlink_script import (
    DUMP_SEQUENCE,
    GET_ROUTE,
    INTERRUPTED,
    MULTI,
    NEW_ROUTE,
    Script,
    done,
    message,
    refusal,
    script,
)

__all__ = ["script"]


def connected(kernel: Script, silence: float = 30.0) -> Executor[NetlinkSocket]:
    return Executor(lambda: NetlinkSocket(kernel.connect()), silence=silence)


FIRST, SECOND = message(NEW_ROUTE, b"once"), message(NEW_ROUTE, b"more")


@pytest.mark.parametrize(
    "interrupted",
    [
        [message(NEW_ROUTE, b"once", flags=MULTI | INTERRUPTED), done()],
        [FIRST, SECOND + message(NEW_ROUTE, b"last", flags=MULTI | INTERRUPTED) + done()],
        [FIRST, done(flags=MULTI | INTERRUPTED)],
    ],
)
async def test_interrupted_dump_is_repeated(script: Callable[..., Script], interrupted: list[bytes]) -> None:
    kernel = script(interrupted, [FIRST, SECOND + done()])
    executor = connected(kernel)
    assert await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, SECOND + done()]
    assert len(kernel.requests) == 2
    assert kernel.opened == 1, "the interrupted dump was complete, so the socket is kept"
    executor.close()


async def test_dump_that_is_interrupted_every_time_fails(script: Callable[..., Script]) -> None:
    kernel = script(*[[FIRST, done(flags=MULTI | INTERRUPTED)]] * DUMP_TRIES, [FIRST, done()])
    executor = connected(kernel)
    with pytest.raises(KernelError, match="changed during every dump") as raised:
        await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12))
    assert raised.value.code == errno.EINTR
    assert await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, done()]
    executor.close()


async def test_dump_with_known_datagrams_is_read_to_its_end(script: Callable[..., Script]) -> None:
    kernel = script([FIRST, done()], [FIRST, SECOND, done()])
    executor = connected(kernel)
    known = await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12))
    assert await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12), known=known[:-1]) == [FIRST, SECOND, done()]
    executor.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ([FIRST, done(errno.EMSGSIZE)], os.strerror(errno.EMSGSIZE)),
        ([refusal(errno.EMSGSIZE, DUMP_SEQUENCE, b"Too long")], "Too long"),
        ([refusal(errno.EMSGSIZE, DUMP_SEQUENCE)], os.strerror(errno.EMSGSIZE)),
    ],
)
async def test_refused_dump_raises_its_message(script: Callable[..., Script], answer: list[bytes], text: str) -> None:
    kernel = script(answer, [done()])
    executor = connected(kernel)
    with pytest.raises(KernelError) as raised:
        await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12))
    assert (str(raised.value), raised.value.code) == (text, errno.EMSGSIZE)
    assert await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [done()]
    executor.close()


def sequences(request: bytes) -> list[tuple[int, int]]:
    """(sequence number, flags) of each message of a request."""
    found, offset = [], 0
    while offset < len(request):
        length, _, flags, sequence, _ = struct.unpack_from("=IHHII", request, offset)
        found.append((sequence, flags))
        offset += length
    return found


async def test_refusals_are_returned_by_position_without_those_of_other_requests(
    script: Callable[..., Script],
) -> None:
    def answer(request: bytes) -> list[bytes]:
        (one, _), (two, _), (three, flags) = sequences(request)
        assert flags & 0x4, "the last one requests an acknowledgement"
        late = refusal(errno.EPERM, one - 1, b"of an earlier request")
        return [late, refusal(errno.EEXIST, one) + refusal(errno.EINVAL, two, b"No"), refusal(0, three)]

    executor = connected(script(answer))
    refused = await executor.run(NetlinkSocket.request, [(NEW_ROUTE, 0, bytes(12))] * 3)
    assert {position: (each.code, each.text) for position, each in refused.items()} == {
        0: (errno.EEXIST, os.strerror(errno.EEXIST)),
        1: (errno.EINVAL, "No"),
    }
    executor.close()


async def test_silent_kernel_times_out_and_the_next_exchange_uses_a_new_socket(script: Callable[..., Script]) -> None:
    kernel = script([FIRST], [FIRST, done()], [])
    executor = connected(kernel, silence=0.1)
    with pytest.raises(KernelError, match="does not answer") as raised:
        await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12))
    assert raised.value.code == errno.ETIMEDOUT
    assert await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, done()]
    assert kernel.opened == 2, "the rest of the first answer could still arrive on the first socket"
    with pytest.raises(KernelError, match="does not answer"):
        await executor.run(NetlinkSocket.request, [(NEW_ROUTE, 0, bytes(12))])
    executor.close()


async def test_cancelled_exchange_does_not_affect_the_next_one(script: Callable[..., Script]) -> None:
    kernel = script([FIRST], [FIRST, done()])
    executor = connected(kernel)
    task = asyncio.create_task(executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12)))
    while not kernel.requests:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, done()]
    assert kernel.opened == 2
    executor.close()


async def test_slow_kernel_does_not_time_out_while_datagrams_arrive(script: Callable[..., Script]) -> None:
    parts = [FIRST] * 8 + [done()]

    def answer_slowly(_: bytes) -> list[bytes]:
        loop = asyncio.get_running_loop()
        for number, part in enumerate(parts[1:], start=1):
            loop.call_later(0.15 * number, kernel.send, part)
        return parts[:1]

    kernel = script(answer_slowly)
    executor = connected(kernel, silence=0.5)
    assert await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == parts, "1.2 s, with gaps below 0.5 s"
    assert kernel.opened == 1
    executor.close()


async def test_cancelled_request_sends_no_further_batches(script: Callable[..., Script]) -> None:
    def acknowledge(request: bytes) -> list[bytes]:
        return [refusal(0, sequences(request)[-1][0])]

    kernel = script(acknowledge, [], [FIRST, done()])
    executor = connected(kernel)
    task = asyncio.create_task(executor.run(NetlinkSocket.request, [(NEW_ROUTE, 0, bytes(12))] * (3 * BATCH)))
    while len(kernel.requests) < 2:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await executor.run(NetlinkSocket.dump, GET_ROUTE, bytes(12)) == [FIRST, done()]
    assert len(kernel.requests) == 3, "two of three batches, and the dump"
    executor.close()
