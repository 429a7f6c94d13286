"""No wait depends on the difference of two machines' wall clocks: an address is never released early, and not late."""

from datetime import timedelta
from ipaddress import ip_address

import pytest

from overlay_net.domain.allocation.conflict import CONFLICT_PAUSE_MAX, QUARANTINE_TIME
from overlay_net.domain.allocation.withdrawn_routes import CONFIRMATION_TIMEOUT
from overlay_net.model.ipam import QUARANTINE
from tests.fakes.cluster import NAME, POLICY, Cluster
from tests.unit.factories import raw_node, raw_pool, raw_static_route

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
FIRST = ip_address("192.168.100.2")
ERRORS = (timedelta(minutes=30), -timedelta(minutes=30), timedelta(days=400), -timedelta(days=400))
LONG = POLICY.release_after + POLICY.fence_after + timedelta(hours=1)


@pytest.fixture(params=ERRORS, ids=str)
def error(request: pytest.FixtureRequest) -> timedelta:
    value: timedelta = request.param
    return value


async def settled() -> Cluster:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert cluster.kernel is not None
    return cluster


async def is_deleting(cluster: Cluster) -> bool:
    overlay = await cluster.overlay()
    return overlay is None or "deletionTimestamp" in overlay["metadata"]


async def run_for(cluster: Cluster, time: timedelta) -> None:
    """The time passes in steps; the controller reconciles in each, the agent does not answer."""
    end = cluster.now + time
    while cluster.now < end:
        cluster.now += min(MINUTE, end - cluster.now)
        await cluster.reconcile()


async def test_next_controller_with_another_clock_keeps_the_object_of_a_deleted_node(error: timedelta) -> None:
    cluster = await settled()
    await cluster.leave()
    await cluster.reconcile()
    cluster.replace_controller(error)
    await cluster.reconcile()
    await run_for(cluster, POLICY.release_after - SECOND)
    assert not await is_deleting(cluster)
    await run_for(cluster, MINUTE)
    assert await is_deleting(cluster), "it waits no longer than release_after after its start"


async def test_next_controller_with_another_clock_fences_an_unresponsive_agent(error: timedelta) -> None:
    cluster = await settled()
    await cluster.leave()
    await cluster.delete_overlay()
    await cluster.reconcile()
    cluster.replace_controller(error)
    await cluster.reconcile()
    await run_for(cluster, POLICY.fence_after - SECOND)
    assert await cluster.own_records(), "the kernel may still have the address"
    await run_for(cluster, MINUTE)
    assert not await cluster.own_records(), "it waits no longer than fence_after after its start"


async def test_clock_of_the_api_server_does_not_shorten_the_fence(error: timedelta) -> None:
    """``deletionTimestamp`` and ``nodeGoneSince`` come from two clocks."""
    cluster = await settled()
    cluster.server_clock_error = error
    await cluster.leave()
    await run_for(cluster, POLICY.release_after + MINUTE)
    assert await is_deleting(cluster)
    await run_for(cluster, POLICY.fence_after - MINUTE - SECOND)
    assert await cluster.own_records()
    await run_for(cluster, 2 * MINUTE)
    assert not await cluster.own_records()


async def test_every_restart_begins_the_wait_again(error: timedelta) -> None:
    """The time without an observer does not count, as the Node may have been back meanwhile."""
    cluster = await settled()
    await cluster.leave()
    await cluster.delete_overlay()
    for _ in range(5):
        cluster.replace_controller(error)
        await run_for(cluster, POLICY.fence_after / 2)
        assert await cluster.own_records()
    await run_for(cluster, POLICY.fence_after)
    assert not await cluster.own_records()


async def test_node_that_was_back_for_a_moment_is_waited_for_again() -> None:
    """Its deletion and return reach the controller before it reconciles."""
    cluster = await settled()
    await cluster.leave()
    await run_for(cluster, POLICY.release_after - MINUTE)
    await cluster.join(raw_node(NAME, uid="uid-2"))
    await cluster.leave()
    await run_for(cluster, POLICY.release_after - MINUTE)
    assert not await is_deleting(cluster)


async def test_quarantine_is_not_shortened_by_another_clock(error: timedelta) -> None:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node(NAME))
    cluster.foreign_hosts = {FIRST}
    await cluster.settle()
    cluster.replace_controller(error)
    await cluster.audit()
    cluster.now += QUARANTINE_TIME - SECOND
    await cluster.audit()
    assert (await cluster.records())[FIRST].node == QUARANTINE
    cluster.now += SECOND
    await cluster.audit()
    assert FIRST not in await cluster.records()


async def test_clock_that_is_set_releases_no_orphan_early(error: timedelta) -> None:
    cluster = await Cluster.start(raw_pool())
    await cluster.take("192.168.100.9", "long-gone")
    await cluster.audit()
    cluster.set_clock(error)
    await cluster.audit()
    assert await cluster.records(), "the grace time has not passed"
    cluster.now += POLICY.release_after
    await cluster.audit()
    assert not await cluster.records()


async def test_pause_between_conflicts_is_not_shortened_or_extended_by_another_clock(error: timedelta) -> None:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node(NAME))
    cluster.foreign_hosts = {FIRST + offset for offset in range(3)}
    await cluster.settle()
    before = (await cluster.present_overlay())["status"]["ipAddr"]
    cluster.replace_controller(error)
    await cluster.settle()
    assert (await cluster.present_overlay())["status"]["ipAddr"] == before, "the pause has not passed"
    cluster.now += CONFLICT_PAUSE_MAX
    await cluster.settle()
    assert (await cluster.present_overlay())["status"]["ipAddr"] != before


async def test_unconfirmed_removal_of_routes_is_reported_neither_early_nor_late(error: timedelta) -> None:
    cluster = await Cluster.start(raw_pool(), routes=[raw_static_route()])
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    await cluster.remove_route("r1")
    await cluster.reconcile()
    cluster.replace_controller(error)
    await cluster.reconcile()
    cluster.now += CONFIRMATION_TIMEOUT - SECOND
    await cluster.reconcile()
    assert "RoutesNotConfirmedGone" not in await cluster.announced()
    cluster.now += SECOND
    await cluster.reconcile()
    assert "RoutesNotConfirmedGone" in await cluster.announced()
