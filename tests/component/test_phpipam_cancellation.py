"""Calls to phpIPAM whose caller gives up: nothing stays taken, and a row that appears afterwards is found."""

import asyncio

import pytest

from overlay_net.model.errors import Unavailable
from tests.component.eventually import eventually
from tests.component.phpipam_support import Bench, bench, owner


async def reached(lab: Bench, number: int) -> None:
    async def enough() -> bool:
        return lab.asked() >= number

    await eventually(enough, f"no {number} calls reach the server", seconds=5)


async def cancelled(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    for answer in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(answer, asyncio.CancelledError)


async def test_calls_given_up_in_flight_leave_room_for_others() -> None:
    async with bench(concurrency=3) as lab:
        await lab.client.read_subnet(lab.subnet)
        for _ in range(3):
            lab.server.faults.hang = 1
            asked = lab.asked()
            tasks = [asyncio.create_task(lab.client.read_subnet(lab.subnet)) for _ in range(5)]
            await reached(lab, asked + 3)
            await cancelled(*tasks)
            lab.server.faults.hang = 0
            assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
        assert lab.breaker.error is None


async def test_the_log_in_of_one_who_gives_up_is_made_by_the_next_who_waits() -> None:
    async with bench() as lab:
        lab.server.faults.hang = 1
        first = asyncio.create_task(lab.client.read_subnet(lab.subnet))
        await reached(lab, 1)
        others = [asyncio.create_task(lab.client.read_subnet(lab.subnet)) for _ in range(5)]
        await asyncio.sleep(0)
        lab.server.faults.hang = 0
        await cancelled(first)
        assert [answer["id"] for answer in await asyncio.gather(*others)] == [lab.subnet] * 5


async def test_a_probe_that_is_given_up_is_followed_by_another_one() -> None:
    async with bench(timeout=5) as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.backend_up = False
        for _ in range(3):
            with pytest.raises(Unavailable):
                await lab.client.read_subnet(lab.subnet)
        lab.server.backend_up, lab.server.faults.hang = True, 1
        lab.clock.forward(31)
        asked = lab.asked()
        probe = asyncio.create_task(lab.client.read_subnet(lab.subnet))
        await reached(lab, asked + 1)
        await cancelled(probe)
        lab.server.faults.hang = 0
        lab.clock.forward(5)
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet


async def test_a_reservation_given_up_on_its_way_is_not_made_twice() -> None:
    async with bench() as lab:
        backend = lab.backend()
        await lab.client.read_subnet(lab.subnet)
        async with lab.server.hold_lock():
            asked = lab.asked()
            task = asyncio.create_task(backend.reserve(owner(), lab.pool()))
            await reached(lab, asked + 1)
            await cancelled(task)
            assert await backend.find(owner(), None) == ()
            with pytest.raises(Unavailable, match="may still appear"):
                await backend.reserve(owner(), lab.pool())

        async def appeared() -> bool:
            return bool(await backend.find(owner(), None))

        await eventually(appeared, "the server forgets a request whose client has gone", seconds=5)
        assert len(lab.rows()) == 1
