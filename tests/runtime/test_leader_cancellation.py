"""Cancelled at any await, an elector leaves a lease that the next one gets, and never two that lead."""

import asyncio

import pytest

from tests.fakes.leases import Leases
from tests.runtime.conftest import Run
from tests.runtime.test_leader import KEY, TIMES, Candidate, spec


@pytest.mark.parametrize("seconds", [turn * 0.05 for turn in range(24)])
def test_whenever_a_leader_is_stopped_its_release_holds(virtual_time: Run, seconds: float) -> None:
    """Each call takes 0.1 s, a renewal comes about every 2 s: it is stopped in the middle of each step."""

    async def main() -> None:
        api = Leases()
        api.late = 0.1
        one, two = Candidate(api, "one"), Candidate(api, "two")
        await one.elector.acquire()
        keeping = asyncio.create_task(one.elector.keep())
        await asyncio.sleep(1.5 + seconds)
        keeping.cancel()
        await asyncio.wait([keeping])
        await one.elector.release()
        assert spec(api)["holderIdentity"] == "", "also where the answer to a renewal was not waited for"
        assert not one.may_write()
        await asyncio.wait_for(two.elector.acquire(), 1)
        assert two.status.leads

    virtual_time(main())


@pytest.mark.parametrize("seconds", [turn * 0.05 for turn in range(8)])
def test_a_stopped_candidate_keeps_nobody_waiting_longer_than_a_lease(virtual_time: Run, seconds: float) -> None:
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


def test_a_release_that_cannot_be_written_ends_in_time(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        await one.elector.acquire()
        api.hanging = True
        await asyncio.wait_for(one.elector.release(), TIMES.renew_deadline / 2 + 0.1)
        assert api.objects[KEY]["spec"]["holderIdentity"] == "one", "it ends by itself"
        assert not one.may_write()

    virtual_time(main())
