"""Leader election in virtual time: a lease is acquired, held, lost and released."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from overlay_net.model.errors import NotLeader
from overlay_net.model.lease import LeaseTimes
from overlay_net.runtime.leader import Elector, LeadershipLost
from tests.fakes.leases import Leases
from tests.runtime.conftest import Run

TIMES = LeaseTimes(duration=15.0, renew_deadline=10.0, retry_period=2.0)
KEY = ("ns", "lease")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Status:
    """The metric."""

    def __init__(self) -> None:
        self.is_leader = False

    def set_leader(self, name: str, is_leader: bool) -> None:
        assert name == "lease"
        self.is_leader = is_leader


class Candidate:
    """An elector and the clocks of its machine: ``skew`` of the wall clock, ``asleep`` seconds of suspension."""

    def __init__(self, api: Leases, identity: str, skew: float = 0.0) -> None:
        self.status = Status()
        self.asleep = 0.0
        loop = asyncio.get_running_loop()
        self.elector = Elector(
            api,
            *KEY,
            identity,
            TIMES,
            self.status,
            clock=lambda: loop.time() + self.asleep,
            now=lambda: EPOCH + timedelta(seconds=loop.time() + skew),
        )

    async def serve(self) -> None:
        """Acquire the lease and hold it until it is lost."""
        await self.elector.acquire()
        await self.elector.hold()

    def may_write(self) -> bool:
        try:
            return self.elector.remaining() > 0
        except NotLeader:
            return False


def spec(api: Leases) -> dict[str, object]:
    found = api.objects[KEY]["spec"]
    assert isinstance(found, dict)
    return found


def now() -> float:
    return asyncio.get_running_loop().time()


async def wait_lost(task: "asyncio.Task[None]") -> str:
    """The message of the exception that ends ``task``."""
    with pytest.raises(LeadershipLost) as lost:
        await task
    return str(lost.value)


def test_the_first_process_creates_the_lease_and_holds_it(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one"), Candidate(api, "two")
        assert not one.may_write()
        tasks = [asyncio.create_task(one.serve())]
        await asyncio.sleep(1)
        tasks.append(asyncio.create_task(two.serve()))
        await asyncio.sleep(3600)
        assert (one.status.is_leader, two.status.is_leader) == (True, False)
        assert (one.may_write(), two.may_write()) == (True, False)
        assert two.elector.has_read_lease, "a process on standby has read the lease"
        record = spec(api)
        assert record["holderIdentity"] == "one"
        assert record["leaseDurationSeconds"] == 15
        assert record["leaseTransitions"] == 0
        assert record["acquireTime"] == "2026-01-01T00:00:00.000000Z"
        renewed = datetime.fromisoformat(str(record["renewTime"]))
        assert EPOCH + timedelta(seconds=3598) < renewed, "it is renewed"
        for task in tasks:
            task.cancel()

    virtual_time(main())


def test_a_dead_leader_is_replaced_once_its_lease_has_expired(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one"), Candidate(api, "two")
        first, second = asyncio.create_task(one.serve()), asyncio.create_task(two.serve())
        await asyncio.sleep(60)
        first.cancel()
        died = now()
        while not two.status.is_leader:
            assert not two.may_write()
            await asyncio.sleep(0.1)
        # It observed the last renewal at most one interval late, and reads again at most one interval after expiry.
        assert TIMES.duration - 2.4 <= now() - died <= TIMES.duration + 2 * 2.4 + 0.1
        assert spec(api)["leaseTransitions"] == 1
        second.cancel()

    virtual_time(main())


def test_a_released_lease_is_acquired_at_the_next_attempt(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one"), Candidate(api, "two")
        first, second = asyncio.create_task(one.serve()), asyncio.create_task(two.serve())
        await asyncio.sleep(60)
        first.cancel()
        await asyncio.wait([first])
        await one.elector.release()
        assert spec(api)["holderIdentity"] == ""
        assert (one.status.is_leader, one.may_write()) == (False, False)
        await asyncio.sleep(2.5)
        assert two.status.is_leader
        assert spec(api)["holderIdentity"] == "two"
        second.cancel()

    virtual_time(main())


@pytest.mark.parametrize("how", ["unreachable", "hanging", "loses_responses"])
def test_a_leader_loses_the_lease_in_an_outage_before_another_can_acquire_it(virtual_time: Run, how: str) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one"), Candidate(api, "two")
        first, second = asyncio.create_task(one.serve()), asyncio.create_task(two.serve())
        await asyncio.sleep(60)
        setattr(api, how, True)
        began = now()
        message = await wait_lost(first)
        assert message.startswith("lost the lease ns/lease: ")
        assert now() - began <= TIMES.renew_deadline
        assert (one.status.is_leader, one.may_write()) == (False, False)
        setattr(api, how, False)
        while not two.status.is_leader:
            await asyncio.sleep(0.1)
        second.cancel()

    virtual_time(main())


@pytest.mark.parametrize("how", ["unreachable", "hanging", "loses_responses"])
def test_a_leader_survives_an_outage_shorter_than_the_renew_deadline(virtual_time: Run, how: str) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(60)
        for _ in range(20):
            setattr(api, how, True)
            # If the server hangs, the attempt in progress has to time out first.
            await asyncio.sleep(4)
            setattr(api, how, False)
            await asyncio.sleep(20)
        assert one.status.is_leader
        assert not task.done()
        task.cancel()

    virtual_time(main())


async def restart_leaders(api: Leases, number: int, candidates: list[Candidate]) -> None:
    """One replica, which is restarted whenever it loses the lease; ``candidates`` gets each of its processes."""
    for life in range(1000):
        candidate = Candidate(api, f"{number}-{life}", skew=2500.0 * number)
        candidates.append(candidate)
        with contextlib.suppress(LeadershipLost):
            await candidate.serve()


def test_at_most_one_process_may_write_at_any_time(virtual_time: Run) -> None:
    """Responses are late, the server hangs at times, and each leader that exits is restarted."""

    async def main() -> None:
        api = Leases()
        candidates: list[Candidate] = []
        replicas = [asyncio.create_task(restart_leaders(api, number, candidates)) for number in range(3)]
        led: set[int] = set()
        for step in range(20_000):
            await asyncio.sleep(0.25)
            api.late = (step // 40 % 7) * 0.7
            api.hanging = step // 70 % 5 == 4
            writers = [candidate for candidate in candidates if candidate.may_write()]
            assert len(writers) <= 1
            led |= set(map(id, writers))
        assert len(led) > 10, "the leader changed"
        for task in replicas:
            task.cancel()

    virtual_time(main())


@pytest.mark.parametrize("skew", [-86400.0, 86400.0], ids=["behind", "ahead"])
def test_clocks_of_other_machines_do_not_matter(virtual_time: Run, skew: float) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one", skew), Candidate(api, "two")
        first, second = asyncio.create_task(one.serve()), asyncio.create_task(two.serve())
        await asyncio.sleep(600)
        assert (one.status.is_leader, two.status.is_leader) == (True, False), "an old timestamp is not an expired lease"
        first.cancel()
        await asyncio.sleep(25)
        assert two.status.is_leader, "a timestamp in the future does not extend the lease"
        second.cancel()

    virtual_time(main())


def test_an_existing_lease_is_respected_for_the_duration_in_its_record(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        old = {"holderIdentity": "gone", "leaseDurationSeconds": 40, "renewTime": "2020-01-01T00:00:00.000000Z"}
        api.put(KEY, {"metadata": {"name": "lease", "labels": {"mine": "too"}}, "spec": old | {"strategy": "x"}})
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(39)
        assert not one.may_write(), "the duration of its holder is longer"
        await asyncio.sleep(4)
        assert one.status.is_leader
        assert api.objects[KEY]["metadata"]["labels"] == {"mine": "too"}, "other fields are kept"
        assert spec(api)["strategy"] == "x"
        task.cancel()

    virtual_time(main())


def test_an_edit_is_harmless_and_another_holder_or_a_deletion_ends_the_leadership(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(10)
        edited = api.objects[KEY]
        edited["metadata"]["annotations"] = {"note": "edited"}
        api.put(KEY, edited)
        await asyncio.sleep(60)
        assert one.status.is_leader
        assert api.objects[KEY]["metadata"]["annotations"] == {"note": "edited"}
        api.put(KEY, api.objects[KEY] | {"spec": {**spec(api), "holderIdentity": "two"}})
        assert await wait_lost(task) == "lost the lease ns/lease: two holds it now"
        two = Candidate(api, "two")
        task = asyncio.create_task(two.serve())
        await asyncio.sleep(5)
        del api.objects[KEY]
        assert await wait_lost(task) == "lost the lease ns/lease: it was deleted"

    virtual_time(main())


def test_a_leader_that_was_paused_longer_than_its_lease_exits_without_a_write(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(10)
        assert one.may_write()
        before = api.version
        one.asleep = 16.0
        assert not one.may_write()
        assert await wait_lost(task) == "lost the lease ns/lease: this process was paused"
        assert api.version == before

    virtual_time(main())


def test_a_response_from_before_a_pause_does_not_extend_the_lease(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(10)
        api.late = 1.0
        before = api.version
        while api.version == before:
            await asyncio.sleep(0.1)
        # The renewal is written, its response is pending.
        one.asleep = 16.0
        await asyncio.sleep(1.1)
        assert not one.may_write()
        await wait_lost(task)

    virtual_time(main())


def test_one_of_several_simultaneous_candidates_becomes_leader(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        api.late = 0.3
        candidates = [Candidate(api, name) for name in ("one", "two", "three")]
        tasks = [asyncio.create_task(each.serve()) for each in candidates]
        await asyncio.sleep(30)
        assert [each.status.is_leader for each in candidates].count(True) == 1
        for task in tasks:
            task.cancel()

    virtual_time(main())


def test_remaining_time_ends_at_the_renew_deadline(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        await one.elector.acquire()
        assert one.elector.remaining() == TIMES.duration
        await asyncio.sleep(9)
        assert one.elector.remaining() == pytest.approx(6)
        await asyncio.sleep(1)
        with pytest.raises(NotLeader, match="the lease ns/lease is not held"):
            one.elector.remaining()

    virtual_time(main())
