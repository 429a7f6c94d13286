"""Cancelled at any await, an elector leaves a lease that another one can acquire, and never two leaders."""

import asyncio

import pytest

from tests.fakes.leases import Leases
from tests.runtime.conftest import Run
from tests.runtime.test_leader import KEY, TIMES, Candidate, spec


@pytest.mark.parametrize("seconds", [turn * 0.05 for turn in range(24)])
def test_a_leader_that_is_stopped_at_any_time_releases_the_lease(virtual_time: Run, seconds: float) -> None:
    """A call takes 0.1 s and a renewal starts every 2 s, so that each step is interrupted once."""

    async def main() -> None:
        api = Leases()
        api.late = 0.1
        one, two = Candidate(api, "one"), Candidate(api, "two")
        await one.elector.acquire()
        holding = asyncio.create_task(one.elector.hold())
        await asyncio.sleep(1.5 + seconds)
        holding.cancel()
        await asyncio.wait([holding])
        await one.elector.release()
        assert spec(api)["holderIdentity"] == "", "even if the response to a renewal was pending"
        assert not one.may_write()
        await asyncio.wait_for(two.elector.acquire(), 1)
        assert two.status.is_leader

    virtual_time(main())


@pytest.mark.parametrize("seconds", [turn * 0.05 for turn in range(8)])
def test_a_stopped_candidate_delays_others_by_one_lease_at_most(virtual_time: Run, seconds: float) -> None:
    async def main() -> None:
        api = Leases()
        api.late = 0.1
        one, two = Candidate(api, "one"), Candidate(api, "two")
        acquiring = asyncio.create_task(one.elector.acquire())
        await asyncio.sleep(seconds)
        acquiring.cancel()
        await asyncio.wait([acquiring])
        await asyncio.wait_for(two.elector.acquire(), TIMES.duration + 3)
        assert spec(api)["holderIdentity"] == "two"

    virtual_time(main())


def test_a_release_that_gets_no_response_times_out(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        await one.elector.acquire()
        api.hanging = True
        await asyncio.wait_for(one.elector.release(), TIMES.renew_deadline / 2 + 0.1)
        assert api.objects[KEY]["spec"]["holderIdentity"] == "one", "it expires"
        assert not one.may_write()

    virtual_time(main())
