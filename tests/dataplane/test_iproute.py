"""Exchanges of pyroute2 with a scripted kernel that is slow, silent, changing, or loses answers."""

import asyncio
import errno
import gc
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from overlay_net.adapters.netlink.bulk.codec import attribute, attributes, parse_text
from overlay_net.adapters.netlink.bulk.socket import DUMP_TRIES
from overlay_net.adapters.netlink.changes import change
from overlay_net.adapters.netlink.executor import Executor
from overlay_net.adapters.netlink.iproute import IpRoute
from overlay_net.adapters.netlink.policy_rules import PolicyRules
from overlay_net.adapters.netlink.pyroute2_parts import NetlinkRequest, ifaddrmsg, rtnl
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel_actions import AddLink
from tests.dataplane.conftest import MARK
from tests.fakes.netlink_script import ERROR, INTERRUPTED, MULTI, TLVS, Line, Script, done, message, script

__all__ = ["script"]

NEW_ADDRESS = 20
FIRST, SECOND = message(NEW_ADDRESS, b"some address"), message(NEW_ADDRESS, b"more address")
WHOLE = [FIRST, SECOND + done()]


class Lab:
    """An executor whose kernel follows a script."""

    def __init__(self, kernel: Script, silence: float = 30.0) -> None:
        self.kernel = kernel
        self.executor = Executor(lambda: IpRoute(kernel.connect()), silence=silence)

    async def dump(self, known: list[bytes] | None = None) -> list[bytes]:
        return await self.executor.run(lambda route: route.dump(ifaddrmsg, rtnl.RTM_GETADDR, known or ()))

    async def change(self, *ignored: int) -> None:
        await self.executor.run(lambda route: route.change("link", "set", ignored, index=7, mtu=1400))


@pytest.fixture
def lab(script: Callable[..., Script]) -> Any:
    return lambda *lines, silence=30.0: Lab(script(*lines, kind=socket.SOCK_DGRAM), silence)


def answer_to(request: bytes, code: int, text: bytes = b"") -> list[bytes]:
    """NLMSG_ERROR with a copy of the request; a code of 0 acknowledges."""
    _, _, _, sequence, _ = struct.unpack_from("=IHHII", request)
    attribute = struct.pack("=HH", 5 + len(text), 1) + text + b"\0" if text else b""
    body = struct.pack("=i", -code) + request + attribute + bytes(-len(attribute) & 3)
    return [message(ERROR, body, flags=TLVS if text else 0, sequence=sequence)]


@pytest.mark.parametrize(
    "interrupted",
    [
        [message(NEW_ADDRESS, b"some address", flags=MULTI | INTERRUPTED), done()],
        [FIRST, SECOND + message(NEW_ADDRESS, b"last address", flags=MULTI | INTERRUPTED) + done()],
        [FIRST, done(flags=MULTI | INTERRUPTED)],
    ],
)
async def test_interrupted_dump_is_repeated(lab: Callable[..., Lab], interrupted: list[bytes]) -> None:
    one = lab(interrupted, WHOLE)
    assert await one.dump() == WHOLE
    assert len(one.kernel.requests) == 2
    assert one.kernel.requests[0] == one.kernel.requests[1], "also the sequence number: equal states have equal answers"
    assert one.kernel.opened == 1, "the interrupted dump was complete, so the socket is kept"
    one.executor.close()


async def test_answer_of_a_dump_is_freed_without_a_collection_of_cycles(lab: Callable[..., Lab]) -> None:
    one = lab(WHOLE, WHOLE)
    await one.dump()
    gc.collect()
    gc.disable()
    try:
        await one.dump()
        requests = [each for each in gc.get_objects() if issubclass(type(each), NetlinkRequest)]
        left = [
            each
            for request in requests
            for each in gc.get_referents(request.__dict__)
            if WHOLE[0] in gc.get_referents(each)
        ]
    finally:
        gc.enable()
    assert (len(requests), left) == (1, []), "one request is used again, and keeps no answer"
    one.executor.close()


async def test_dump_that_is_interrupted_every_time_fails(lab: Callable[..., Lab]) -> None:
    one = lab(*[[FIRST, done(flags=MULTI | INTERRUPTED)]] * DUMP_TRIES, WHOLE)
    with pytest.raises(KernelError, match="changed during every dump") as raised:
        await one.dump()
    assert raised.value.code == errno.EINTR
    assert await one.dump() == WHOLE
    one.executor.close()


async def test_dump_with_known_datagrams_is_read_to_its_end(lab: Callable[..., Lab]) -> None:
    one = lab([FIRST, done()], [FIRST, SECOND, done()], [FIRST, SECOND, done()])
    known = await one.dump()
    for _ in range(2):
        assert await one.dump(known[:-1]) == [FIRST, SECOND, done()]
    one.executor.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ([FIRST, done(errno.EMSGSIZE)], os.strerror(errno.EMSGSIZE)),
        (lambda request: answer_to(request, errno.EMSGSIZE, b"Too long"), "Too long"),
        (lambda request: answer_to(request, errno.EMSGSIZE), os.strerror(errno.EMSGSIZE)),
    ],
)
async def test_refused_dump_raises_its_message(lab: Callable[..., Lab], answer: Line, text: str) -> None:
    one = lab(answer, WHOLE)
    with pytest.raises(KernelError) as raised:
        await one.dump()
    assert (str(raised.value), raised.value.code) == (text, errno.EMSGSIZE)
    assert await one.dump() == WHOLE
    assert one.kernel.opened == 1
    one.executor.close()


async def test_refused_change_raises_its_message_unless_it_is_ignored(lab: Callable[..., Lab]) -> None:
    def refuse(request: bytes) -> list[bytes]:
        return answer_to(request, errno.ENODEV, b"No such link")

    one = lab(refuse, refuse, lambda request: answer_to(request, 0))
    with pytest.raises(KernelError, match="No such link") as raised:
        await one.change(errno.EPERM)
    assert raised.value.code == errno.ENODEV
    await one.change(errno.ENODEV)
    await one.change()
    assert one.kernel.opened == 1
    one.executor.close()


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPERM])
async def test_kernel_without_policy_routing_has_no_rules(lab: Callable[..., Lab], code: int) -> None:
    one = lab(lambda request: answer_to(request, code))
    rules = one.executor.run(PolicyRules().read)
    if code == errno.EPERM:
        with pytest.raises(KernelError):
            await rules
    else:
        assert await rules == ()
    one.executor.close()


async def test_ipvlan_is_created_in_the_mode_that_answers_arp(lab: Callable[..., Lab]) -> None:
    """Not every kernel has this type of link, so the request is examined."""
    new_link, name, parent, link_info = 16, 3, 5, 18
    eth0 = message(new_link, struct.pack("=BxHiII", 0, 1, 2, 1, 0) + attribute(name, b"eth0\0"), flags=0)
    one = lab([eth0], lambda request: answer_to(request, errno.EOPNOTSUPP, b"Unknown device type"))
    with pytest.raises(KernelError, match="Unknown device type"):
        await one.executor.run(change, AddLink("tmp0", "eth0", "ipvlan"), MARK)
    sent = dict(attributes(one.kernel.requests[1], 32))
    kind, data = 1, 2
    info = dict(attributes(sent[link_info]))
    assert (sent[parent], parse_text(info[kind])) == (struct.pack("=I", 2), "ipvlan")
    assert dict(attributes(info[data])) == {1: struct.pack("=H", 0)}
    one.executor.close()


async def test_silent_kernel_times_out_and_the_next_exchange_uses_a_new_socket(lab: Callable[..., Lab]) -> None:
    one = lab([FIRST], WHOLE, [], silence=0.1)
    with pytest.raises(KernelError, match="does not answer") as raised:
        await one.dump()
    assert raised.value.code == errno.ETIMEDOUT
    assert await one.dump() == WHOLE
    assert one.kernel.opened == 2, "the rest of the first answer could still arrive on the first socket"
    with pytest.raises(KernelError, match="does not answer"):
        await one.change()
    one.executor.close()


async def test_cancelled_exchange_does_not_affect_the_next_one(lab: Callable[..., Lab]) -> None:
    one = lab([FIRST], WHOLE)
    task = asyncio.create_task(one.dump())
    while not one.kernel.requests:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await one.dump() == WHOLE
    assert one.kernel.opened == 2
    one.executor.close()


async def test_cancelled_exchange_sends_no_further_request(lab: Callable[..., Lab]) -> None:
    one = lab([], WHOLE)

    def change_twice(route: IpRoute) -> None:
        for mtu in (1400, 1500):
            route.change("link", "set", index=7, mtu=mtu)

    task = asyncio.create_task(one.executor.run(change_twice))
    while not one.kernel.requests:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await one.dump() == WHOLE
    assert len(one.kernel.requests) == 2, "the first change, and the dump"
    one.executor.close()


async def test_slow_kernel_does_not_time_out_while_datagrams_arrive(lab: Callable[..., Lab]) -> None:
    parts = [FIRST] * 8 + [done()]

    def answer_slowly(_: bytes) -> list[bytes]:
        loop = asyncio.get_running_loop()
        for number, part in enumerate(parts[1:], start=1):
            loop.call_later(0.15 * number, one.kernel.send, part)
        return parts[:1]

    one: Lab = lab(answer_slowly, silence=0.5)
    assert await one.dump() == parts, "1.2 s, with gaps below 0.5 s"
    assert one.kernel.opened == 1
    one.executor.close()


async def test_socket_that_is_gone_fails_the_exchange_and_is_replaced(lab: Callable[..., Lab]) -> None:
    one = lab(WHOLE, WHOLE)
    await one.dump()
    one.kernel.close()
    with pytest.raises(KernelError) as raised:
        await one.dump()
    assert raised.value.code == errno.ECONNREFUSED
    assert await one.dump() == WHOLE
    assert one.kernel.opened == 2
    one.executor.close()
