"""Two releases of two replicas each in virtual time: one release manages the cluster, the other is on standby."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from datetime import timedelta

import pytest

from overlay_net.controller.leader_election import Leadership, make_leadership
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import NotLeader, Unavailable
from overlay_net.model.names import Resource
from overlay_net.runtime.cluster_lock import RETRY_PERIOD
from overlay_net.settings.sections import LeaderElectionSettings
from tests.fakes.leases import Leases
from tests.runtime.conftest import Run

CLUSTER = ("kube-system", "overlay-net")
NAME = "overlay-net-controller"
CLUSTER_DURATION = 600.0
FAILOVER = 15.0 + 2 * 2.4
"""Seconds until a replica replaces a crashed one of its release."""


class Replica:
    """A process of the release in ``namespace``; its calls fail once it has exited."""

    def __init__(
        self, api: Leases, namespace: str, enabled: bool = True, cluster_lease: float = CLUSTER_DURATION
    ) -> None:
        self._api = api
        self.namespace = namespace
        self.is_leader = self.is_standby_release = self.is_complete = self.exited = False
        loop = asyncio.get_running_loop()
        settings = LeaderElectionSettings(
            namespace=namespace,
            lease_name=NAME,
            enabled=enabled,
            cluster_lease_duration=timedelta(seconds=cluster_lease),
        )
        self.leadership: Leadership = make_leadership(settings, self, self, clock=loop.time)
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        running.set(self)
        async with self.leadership.hold(lambda: self.is_complete):
            await asyncio.Event().wait()

    def exit(self) -> None:
        """As a crash."""
        self.exited = True
        self.task.cancel()

    async def stop(self, *, is_complete: bool = False) -> None:
        """As SIGTERM, or the end of a drain."""
        self.is_complete = is_complete
        self.task.cancel()
        await asyncio.wait([self.task])

    def may_write(self) -> bool:
        try:
            return self.leadership.remaining() > 0 and not self.exited
        except NotLeader:
            return False

    def set_leader(self, name: str, is_leader: bool) -> None:
        assert name == NAME
        self.is_leader = is_leader

    def set_standby_release(self, is_standby: bool) -> None:
        self.is_standby_release = is_standby

    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> JsonObject:
        self._check()
        return await self._api.get(resource, name, namespace=namespace)

    async def create(self, resource: Resource, body: JsonObject, *, namespace: str | None = None) -> JsonObject:
        self._check()
        return await self._api.create(resource, body, namespace=namespace)

    async def update(
        self, resource: Resource, name: str, body: JsonObject, *, namespace: str | None = None
    ) -> JsonObject:
        self._check()
        return await self._api.update(resource, name, body, namespace=namespace)

    def _check(self) -> None:
        if self.exited:
            raise Unavailable("the process has exited")


running: ContextVar[Replica] = ContextVar("running")


@pytest.fixture(autouse=True)
def _exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that loses a lease exits; the others of the test continue."""
    monkeypatch.setattr(os, "_exit", lambda _: running.get().exit())


def holder(api: Leases) -> object:
    return api.objects[CLUSTER]["spec"]["holderIdentity"]


def now() -> float:
    return asyncio.get_running_loop().time()


async def wait_for(condition: Callable[[], bool], limit: float) -> None:
    deadline = now() + limit
    while not condition():
        assert now() < deadline
        await asyncio.sleep(0.1)


async def end(*replicas: Replica) -> None:
    for each in replicas:
        await each.stop()


@pytest.mark.parametrize("enabled", [True, False], ids=["replicas", "single controllers"])
def test_the_second_release_stands_by_and_reports_which_one_manages_the_cluster(
    virtual_time: Run, caplog: pytest.LogCaptureFixture, enabled: bool
) -> None:
    async def main() -> None:
        api = Leases()
        first = Replica(api, "one", enabled)
        await wait_for(first.may_write, 1)
        second = Replica(api, "two", enabled)
        await asyncio.sleep(3600)
        assert (first.is_leader, first.leadership.unready(), first.is_standby_release) == (True, "", False)
        assert (second.is_leader, second.may_write(), second.is_standby_release) == (False, False, True)
        assert second.leadership.unready() == (
            f"release one/{NAME} manages this cluster (lease kube-system/overlay-net); this release is on standby"
        )
        lines = [record for record in caplog.records if "another release manages" in record.message]
        assert 10 <= len(lines) <= 13, "it is logged every few minutes"
        await end(first, second)

    virtual_time(main())


def test_a_restart_of_the_first_release_does_not_hand_the_cluster_over(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        leader = Replica(api, "one")
        await wait_for(leader.may_write, 1)
        second = Replica(api, "two")
        for crash in (False, True, False, True):
            successor = Replica(api, "one")
            await asyncio.sleep(60)
            assert not successor.may_write()
            assert successor.leadership.unready() == "", "it could take over"
            if crash:
                leader.exit()
            else:
                await leader.stop()
            await wait_for(successor.may_write, FAILOVER if crash else 2.5)
            leader = successor
        await leader.stop()
        await asyncio.sleep(CLUSTER_DURATION / 2)
        leader = Replica(api, "one")
        await wait_for(leader.may_write, 1)
        assert api.objects[CLUSTER]["spec"]["leaseTransitions"] == 0
        assert second.is_standby_release
        await end(leader, second)

    virtual_time(main())


def test_a_release_that_is_gone_is_replaced_once_its_lease_has_expired(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        first, spare = Replica(api, "one"), Replica(api, "one")
        await wait_for(lambda: first.may_write() or spare.may_write(), 3)
        second = Replica(api, "two")
        await asyncio.sleep(60)
        first.exit()
        spare.exit()
        await asyncio.sleep(CLUSTER_DURATION - 1.2 * RETRY_PERIOD)
        assert not second.may_write()
        await wait_for(second.may_write, 4 * RETRY_PERIOD)
        assert (second.is_leader, second.is_standby_release, second.leadership.unready()) == (True, False, "")
        assert holder(api) == f"two/{NAME}"
        late = Replica(api, "one")
        await asyncio.sleep(60)
        assert (late.may_write(), late.is_standby_release) == (False, True)
        await end(second, late)

    virtual_time(main())


def test_a_release_that_was_drained_is_replaced_at_once(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        first = Replica(api, "one")
        await wait_for(first.may_write, 1)
        second = Replica(api, "two")
        await asyncio.sleep(60)
        await first.stop(is_complete=True)
        assert holder(api) == ""
        await wait_for(second.may_write, 1.2 * RETRY_PERIOD + 0.1)
        await end(second)

    virtual_time(main())


def test_a_drain_that_does_not_become_leader_gives_nothing_up(virtual_time: Run) -> None:
    async def main() -> None:
        api = Leases()
        first = Replica(api, "one")
        await wait_for(first.may_write, 1)
        second = Replica(api, "two")
        await asyncio.sleep(60)
        await second.stop(is_complete=True)
        assert (holder(api), first.may_write()) == (f"one/{NAME}", True)
        await end(first)

    virtual_time(main())


def test_a_leader_of_an_earlier_version_without_the_cluster_lease_is_awaited(virtual_time: Run) -> None:
    """During an upgrade: the new pods must be ready, or the old leader is never terminated."""

    async def main() -> None:
        api = Leases()
        spec = {"holderIdentity": "old_0011aabb", "leaseDurationSeconds": 15, "acquireTime": "x", "renewTime": "x"}
        api.put(("one", NAME), {"metadata": {"name": NAME}, "spec": spec})
        successor = Replica(api, "one")
        await asyncio.sleep(10)
        assert (successor.may_write(), successor.leadership.unready()) == (False, "")
        assert CLUSTER not in api.objects
        api.put(("one", NAME), {"metadata": {"name": NAME}, "spec": spec | {"holderIdentity": ""}})
        await wait_for(successor.may_write, 2.5)
        await end(successor)

    virtual_time(main())


@pytest.mark.parametrize("how", ["unreachable", "hanging"])
def test_a_process_that_cannot_read_the_cluster_lease_is_not_ready(virtual_time: Run, how: str) -> None:
    async def main() -> None:
        api = Leases()
        setattr(api, how, True)
        replica = Replica(api, "one")
        await asyncio.sleep(5)
        assert replica.leadership.unready().startswith("waiting for the first read of lease ")
        replica.exit()

    virtual_time(main())


@pytest.mark.parametrize("lost", [("one", NAME), CLUSTER], ids=["of the release", "of the cluster"])
def test_a_leader_that_loses_either_lease_writes_nothing_more(virtual_time: Run, lost: tuple[str, str]) -> None:
    async def main() -> None:
        api = Leases()
        leader = Replica(api, "one")
        await wait_for(leader.may_write, 1)
        await asyncio.sleep(60)
        taken = api.objects[lost]
        api.put(lost, taken | {"spec": taken["spec"] | {"holderIdentity": "other"}})
        await wait_for(lambda: leader.exited, 1.2 * RETRY_PERIOD + 0.1)
        with pytest.raises(NotLeader):
            leader.leadership.remaining()

    virtual_time(main())


def test_a_write_may_take_no_longer_than_the_lease_that_ends_first(virtual_time: Run) -> None:
    async def main() -> None:
        leader = Replica(Leases(), "one")
        await wait_for(leader.may_write, 1)
        for _ in range(200):
            await asyncio.sleep(0.5)
            assert leader.leadership.remaining() <= 15
        await end(leader)

    virtual_time(main())


NAMESPACES = ("one", "one", "two", "two")


def replace(api: Leases, present: Replica | None, namespace: str, absent: str | None) -> Replica:
    """Return the process that runs next: a new one if it has exited, unless its release is gone."""
    # A process exits in each outage, and its successor observes the whole duration again, so it must be short.
    if present is None or (present.exited and namespace != absent):
        return Replica(api, namespace, cluster_lease=30.0)
    if namespace == absent:
        present.exit()
    return present


async def run_disturbed(api: Leases) -> AsyncIterator[list[Replica]]:
    """Run both releases, and yield the processes that may write at each step."""
    replicas = [replace(api, None, namespace, None) for namespace in NAMESPACES]
    for step in range(20_000):
        await asyncio.sleep(0.25)
        api.late = (step // 40 % 7) * 0.7
        api.hanging = step // 70 % 5 == 4
        # For longer than the lease of the cluster, one release has no process.
        absent = {1: "one", 3: "two"}.get(step // 3500 % 4)
        replicas = [replace(api, each, name, absent) for each, name in zip(replicas, NAMESPACES, strict=True)]
        yield [each for each in replicas if each.may_write()]
    for each in replicas:
        each.exit()


def test_at_most_one_process_of_all_releases_may_write_at_any_time(virtual_time: Run) -> None:
    """Responses are late, the server hangs at times, each process that exits is restarted, and releases come and go."""

    async def main() -> None:
        leaders: list[Replica] = []
        async for writers in run_disturbed(Leases()):
            assert len(writers) <= 1
            leaders += [each for each in writers if each not in leaders]
        assert len(leaders) > 10, "the leader changed"
        assert {each.namespace for each in leaders} == {"one", "two"}, "the release changed"

    virtual_time(main())


def test_a_leader_whose_renewal_ends_with_an_unexpected_error_does_not_stay_without_its_lease(
    virtual_time: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        api = Leases()
        leader = Replica(api, "one")
        await wait_for(leader.may_write, 1)

        async def update(*_: object, **__: object) -> JsonObject:
            raise RuntimeError("a defect")

        monkeypatch.setattr(leader, "update", update)
        await wait_for(lambda: leader.exited, CLUSTER_DURATION)
        assert not leader.may_write()
        with pytest.raises(RuntimeError, match="a defect"):
            await leader.task
        other = Replica(api, "one")
        await wait_for(other.may_write, FAILOVER)
        await end(other)

    virtual_time(main())
