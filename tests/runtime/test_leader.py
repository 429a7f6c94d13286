"""One of several leads: how a lease is got, kept, lost and given up, in virtual time."""

import asyncio
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
    """What the metric would say."""

    def __init__(self) -> None:
        self.leads = False

    def set_leader(self, name: str, is_leader: bool) -> None:
        assert name == "lease"
        self.leads = is_leader


class Candidate:
    """An elector and the clocks of its machine: ``skew`` of the wall clock, ``asleep`` seconds of a suspended one."""

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
        """Lead until the lease is lost."""
        await self.elector.acquire()
        await self.elector.keep()

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


async def ended(task: "asyncio.Task[None]") -> str:
    """What a leader that ends says."""
    with pytest.raises(LeadershipLost) as lost:
        await task
    return str(lost.value)


def test_the_first_makes_the_lease_and_keeps_it_for_an_hour(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one"), Candidate(api, "two")
        assert not one.may_write()
        tasks = [asyncio.create_task(one.serve())]
        await asyncio.sleep(1)
        tasks.append(asyncio.create_task(two.serve()))
        await asyncio.sleep(3600)
        assert (one.status.leads, two.status.leads) == (True, False)
        assert (one.may_write(), two.may_write()) == (True, False)
        assert two.elector.has_read_lease, "whoever stands by has seen the lease"
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


def test_a_leader_that_dies_is_followed_after_the_lease_and_not_before(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one"), Candidate(api, "two")
        first, second = asyncio.create_task(one.serve()), asyncio.create_task(two.serve())
        await asyncio.sleep(60)
        first.cancel()
        died = now()
        while not two.status.leads:
            assert not two.may_write()
            await asyncio.sleep(0.1)
        # It saw the last renewal at most one look late, and looks again at most one pause after the end.
        assert TIMES.duration - 2.4 <= now() - died <= TIMES.duration + 2 * 2.4 + 0.1
        assert spec(api)["leaseTransitions"] == 1
        second.cancel()

    virtual_time(main())


def test_a_lease_that_is_given_up_is_taken_at_the_next_look(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one"), Candidate(api, "two")
        first, second = asyncio.create_task(one.serve()), asyncio.create_task(two.serve())
        await asyncio.sleep(60)
        first.cancel()
        await asyncio.wait([first])
        await one.elector.release()
        assert spec(api)["holderIdentity"] == ""
        assert (one.status.leads, one.may_write()) == (False, False)
        await asyncio.sleep(2.5)
        assert two.status.leads
        assert spec(api)["holderIdentity"] == "two"
        second.cancel()

    virtual_time(main())


@pytest.mark.parametrize("how", ["away", "hanging", "loses_answers"])
def test_an_outage_ends_a_leader_before_another_can_lead(virtual_time: Run, how: str) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one"), Candidate(api, "two")
        first, second = asyncio.create_task(one.serve()), asyncio.create_task(two.serve())
        await asyncio.sleep(60)
        setattr(api, how, True)
        began = now()
        said = await ended(first)
        assert said.startswith("lost the lease ns/lease: ")
        assert now() - began <= TIMES.renew_deadline
        assert (one.status.leads, one.may_write()) == (False, False)
        setattr(api, how, False)
        while not two.status.leads:
            await asyncio.sleep(0.1)
        second.cancel()

    virtual_time(main())


@pytest.mark.parametrize("how", ["away", "hanging", "loses_answers"])
def test_an_outage_shorter_than_the_renew_deadline_is_survived(virtual_time: Run, how: str) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(60)
        for _ in range(20):
            setattr(api, how, True)
            # With a hanging server the try that is under way has to end first.
            await asyncio.sleep(4)
            setattr(api, how, False)
            await asyncio.sleep(20)
        assert one.status.leads
        assert not task.done()
        task.cancel()

    virtual_time(main())


def test_at_no_moment_two_may_write(virtual_time: Run) -> None:
    """Answers come late, the server comes and goes, and each leader that ends is started anew."""

    async def main() -> None:
        api = Leases()
        everybody: list[Candidate] = []

        async def replica(number: int) -> None:
            for life in range(1000):
                candidate = Candidate(api, f"{number}-{life}", skew=2500.0 * number)
                everybody.append(candidate)
                try:
                    await candidate.serve()
                except LeadershipLost:
                    continue

        replicas = [asyncio.create_task(replica(number)) for number in range(3)]
        led = set()
        for step in range(20_000):
            await asyncio.sleep(0.25)
            api.late = (step // 40 % 7) * 0.7
            api.hanging = step // 70 % 5 == 4
            writers = [candidate for candidate in everybody if candidate.may_write()]
            assert len(writers) <= 1
            led |= {id(writer) for writer in writers}
        assert len(led) > 10, "leaders have changed"
        for task in replicas:
            task.cancel()

    virtual_time(main())


@pytest.mark.parametrize("skew", [-86400.0, 86400.0], ids=["behind", "ahead"])
def test_the_clocks_of_others_do_not_matter(virtual_time: Run, skew: float) -> None:
    async def main() -> None:
        api = Leases()
        one, two = Candidate(api, "one", skew), Candidate(api, "two")
        first, second = asyncio.create_task(one.serve()), asyncio.create_task(two.serve())
        await asyncio.sleep(600)
        assert (one.status.leads, two.status.leads) == (True, False), "an hour-old time is not an old lease"
        first.cancel()
        await asyncio.sleep(25)
        assert two.status.leads, "a time in the future makes no lease longer"
        second.cancel()

    virtual_time(main())


def test_whoever_comes_to_an_old_lease_waits_for_its_length(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        old = {"holderIdentity": "gone", "leaseDurationSeconds": 40, "renewTime": "2020-01-01T00:00:00.000000Z"}
        api.put(KEY, {"metadata": {"name": "lease", "labels": {"mine": "too"}}, "spec": old | {"strategy": "x"}})
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(39)
        assert not one.may_write(), "its holder may live by a longer time than ours"
        await asyncio.sleep(4)
        assert one.status.leads
        assert api.objects[KEY]["metadata"]["labels"] == {"mine": "too"}, "what others wrote stays"
        assert spec(api)["strategy"] == "x"
        task.cancel()

    virtual_time(main())


def test_a_lease_that_somebody_edits_or_takes_or_deletes(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(10)
        edited = api.objects[KEY]
        edited["metadata"]["annotations"] = {"note": "seen"}
        api.put(KEY, edited)
        await asyncio.sleep(60)
        assert one.status.leads
        assert api.objects[KEY]["metadata"]["annotations"] == {"note": "seen"}
        api.put(KEY, api.objects[KEY] | {"spec": {**spec(api), "holderIdentity": "two"}})
        assert await ended(task) == "lost the lease ns/lease: two holds it now"
        two = Candidate(api, "two")
        task = asyncio.create_task(two.serve())
        await asyncio.sleep(5)
        del api.objects[KEY]
        assert await ended(task) == "lost the lease ns/lease: somebody deleted it"

    virtual_time(main())


def test_a_leader_that_stood_still_longer_than_its_lease_ends_and_writes_nothing(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(10)
        assert one.may_write()
        before = api.version
        one.asleep = 16.0
        assert not one.may_write()
        assert await ended(task) == "lost the lease ns/lease: this process stood still"
        assert api.version == before

    virtual_time(main())


def test_an_answer_from_before_the_standstill_makes_no_lease_longer(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        one = Candidate(api, "one")
        task = asyncio.create_task(one.serve())
        await asyncio.sleep(10)
        api.late = 1.0
        before = api.version
        while api.version == before:
            await asyncio.sleep(0.1)
        # The renewal is done, and its answer under way.
        one.asleep = 16.0
        await asyncio.sleep(1.1)
        assert not one.may_write()
        await ended(task)

    virtual_time(main())


def test_two_that_take_it_at_the_same_moment(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        api.late = 0.3
        candidates = [Candidate(api, name) for name in ("one", "two", "three")]
        tasks = [asyncio.create_task(each.serve()) for each in candidates]
        await asyncio.sleep(30)
        assert [each.status.leads for each in candidates].count(True) == 1
        for task in tasks:
            task.cancel()

    virtual_time(main())


def test_time_left_ends_at_the_renew_deadline(virtual_time: Run) -> None:
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
