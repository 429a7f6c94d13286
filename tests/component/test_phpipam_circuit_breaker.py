"""The circuit breaker of phpIPAM: when it opens, what it admits while half-open, and when it closes."""

from tests.component.phpipam_faults import backend_down, call_and_fail
from tests.component.phpipam_support import bench


async def test_breaker_opens_after_three_consecutive_failures() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        backend_down(lab.server)
        for _ in range(3):
            await call_and_fail(lab)
        calls = lab.call_count()
        errors = await call_and_fail(lab, 100)
        assert lab.call_count() == calls
        assert all("502" in str(error) and error.retry_after is not None for error in errors)


async def test_breaker_stays_closed_when_failures_are_not_consecutive() -> None:
    async with bench() as lab:
        for _ in range(10):
            backend_down(lab.server)
            await call_and_fail(lab)
            await call_and_fail(lab)
            lab.server.backend_up = True
            await lab.client.read_subnet(lab.subnet)
        assert lab.breaker.error is None


async def test_half_open_breaker_admits_one_call_after_growing_pauses_and_closes_on_success() -> None:
    async with bench() as lab:
        await lab.client.read_subnet(lab.subnet)
        backend_down(lab.server)
        for _ in range(3):
            await call_and_fail(lab)
        pauses = []
        for _ in range(6):
            pause = (await call_and_fail(lab))[0].retry_after
            assert pause is not None
            pauses.append(pause)
            lab.clock.forward(pause)
            calls = lab.call_count()
            await call_and_fail(lab, 30)
            assert lab.call_count() == calls + 1
        assert pauses == sorted(pauses)
        assert pauses[-1] > 4 * pauses[0]
        for _ in range(20):
            lab.clock.forward(31)
            await call_and_fail(lab)
        assert ((await call_and_fail(lab))[0].retry_after or 0) <= 30
        lab.server.backend_up = True
        lab.clock.forward(31)
        assert lab.recoveries == []
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
        assert lab.recoveries == [lab.clock()]
        assert lab.breaker.error is None


async def test_queued_calls_fail_without_a_request_once_the_breaker_opens() -> None:
    async with bench(timeout=0.5, concurrency=4) as lab:
        await lab.client.read_subnet(lab.subnet)
        lab.server.faults.hang = 1
        calls = lab.call_count()
        await call_and_fail(lab, 60)
        # Four were in flight, and two more may start before the third failure.
        assert lab.call_count() <= calls + 6
