"""Cancelled calls to phpIPAM: they free their resources, and a row that appears afterwards is found."""

import asyncio

import pytest

from overlay_net.model.errors import Unavailable
from tests.component.eventually import eventually
from tests.component.phpipam_support import Bench, bench, owner


async def reached(lab: Bench, number: int) -> None:
    async def enough() -> bool:
        return lab.call_count() >= number

    await eventually(enough, f"{number} calls reach the server", seconds=5)


async def cancelled(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    for answer in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(answer, asyncio.CancelledError)


async def test_cancelled_calls_free_their_concurrency_slots() -> None:
    async with bench(concurrency=3) as lab:
        await lab.client.read_subnet(lab.subnet)
        for _ in range(3):
            lab.server.faults.hang = 1
            calls = lab.call_count()
            tasks = [asyncio.create_task(lab.client.read_subnet(lab.subnet)) for _ in range(5)]
            await reached(lab, calls + 3)
            await cancelled(*tasks)
            lab.server.faults.hang = 0
            assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
        assert lab.breaker.error is None


async def test_next_waiting_call_logs_in_after_a_cancelled_login() -> None:
    async with bench() as lab:
        lab.server.faults.hang = 1
        first = asyncio.create_task(lab.client.read_subnet(lab.subnet))
        await reached(lab, 1)
        others = [asyncio.create_task(lab.client.read_subnet(lab.subnet)) for _ in range(5)]
        await asyncio.sleep(0)
        lab.server.faults.hang = 0
        await cancelled(first)
        assert [answer["id"] for answer in await asyncio.gather(*others)] == [lab.subnet] * 5


async def test_cancelled_probe_is_followed_by_another() -> None:
    async with bench(timeout=5) as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.backend_up = False
        for _ in range(3):
            with pytest.raises(Unavailable):
                await lab.client.read_subnet(lab.subnet)
        lab.server.backend_up, lab.server.faults.hang = True, 1
        lab.clock.forward(31)
        calls = lab.call_count()
        probe = asyncio.create_task(lab.client.read_subnet(lab.subnet))
        await reached(lab, calls + 1)
        await cancelled(probe)
        lab.server.faults.hang = 0
        lab.clock.forward(5)
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet


async def test_cancelled_reservation_is_not_repeated_while_its_row_may_appear() -> None:
    async with bench() as lab:
        backend = lab.backend()
        await lab.client.read_subnet(lab.subnet)
        async with lab.server.hold_lock():
            calls = lab.call_count()
            task = asyncio.create_task(backend.reserve(owner(), lab.pool()))
            await reached(lab, calls + 1)
            await cancelled(task)
            assert await backend.find(owner(), None) == ()
            with pytest.raises(Unavailable, match="may still appear"):
                await backend.reserve(owner(), lab.pool())

        async def appeared() -> bool:
            return bool(await backend.find(owner(), None))

        await eventually(appeared, "the server completes the request of a disconnected client", seconds=5)
        assert len(lab.rows()) == 1
