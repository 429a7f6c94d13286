"""phpIPAM is removed from the settings while it holds records of nodes: nothing is forgotten, and people read why."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.adapters.cluster_ipam import ClusterIpam
from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.pool_reconciler import PoolReconciler
from overlay_net.domain.allocation.conflict import QUARANTINE_TIME
from overlay_net.domain.status.drain_progress import describe_remaining
from overlay_net.model.api import JsonObject
from overlay_net.model.ipam import QUARANTINE
from overlay_net.model.names import FINALIZER, OVERLAY_POOLS
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.ops.controller_metrics import ControllerMetrics
from tests.fakes.cluster import NAME, POLICY, Cluster
from tests.fakes.kube import InMemoryKube
from tests.unit.factories import pool, raw_node, raw_phpipam_pool, raw_pool

OUTSIDE = raw_phpipam_pool(raw_pool())
INSIDE = raw_pool("p2", "10.2.0.0/24", "10.2.0.1", priority=200)
HELD = ip_address("192.168.100.2")


async def without_phpipam() -> Cluster:
    """A settled node with an address from phpIPAM, which is then removed from the settings."""
    cluster = await Cluster.start(OUTSIDE, INSIDE, feed=False)
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert list(await cluster.records()) == [HELD]
    cluster.configure_phpipam(False)
    return cluster


async def reserved(cluster: Cluster) -> tuple[str, str, str]:
    status = (await cluster.present_overlay())["status"]
    (found,) = [each for each in status["conditions"] if each["type"] == "Reserved"]
    return found["status"], found["reason"], found["message"]


async def assert_held(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.now += POLICY.release_after + POLICY.fence_after
        await cluster.reconcile()
        await cluster.run_agent()
    assert (await cluster.present_overlay())["metadata"]["finalizers"] == [FINALIZER]
    _, reason, message = await reserved(cluster)
    assert reason == "IpamNotConfigured"
    assert "phpIPAM" in message
    assert HELD in await cluster.records()


async def assert_released_once_configured(cluster: Cluster) -> None:
    cluster.configure_phpipam(True)
    for _ in range(3):
        await cluster.reconcile()
    assert (await cluster.overlay(), await cluster.records()) == (None, {})


@pytest.mark.parametrize("pools", [[OUTSIDE, INSIDE], [INSIDE], []], ids=["pools stay", "its pool deleted", "no pool"])
async def test_the_object_of_a_deleted_node_stays_until_phpipam_is_configured_again(pools: list[JsonObject]) -> None:
    cluster = await without_phpipam()
    await cluster.set_pools(*pools)
    await cluster.leave()
    await assert_held(cluster)
    await assert_released_once_configured(cluster)


async def test_an_object_of_an_earlier_version_is_held_by_the_kind_of_its_pool() -> None:
    cluster = await without_phpipam()
    raw = await cluster.present_overlay()
    raw["status"].pop("ipams", None)
    await cluster.replace_status(raw["status"])
    await cluster.leave()
    await assert_held(cluster)


async def test_a_drain_waits_and_names_what_is_missing() -> None:
    cluster = await without_phpipam()
    await cluster.set_policy(draining=True)
    await assert_held(cluster)
    remaining = describe_remaining([NodeOverlay.parse(await cluster.present_overlay())])
    assert "phpIPAM" in remaining
    assert "phpipam.url" in remaining
    await assert_released_once_configured(cluster)


async def test_a_node_that_moved_to_another_ipam_keeps_its_old_record_until_it_can_be_released() -> None:
    cluster = await without_phpipam()
    await cluster.pin("10.2.0.9")
    await cluster.settle()
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "10.2.0.9/24"
    assert str(cluster.kernel) == "10.2.0.9/24"
    before = await cluster.overlay()
    await cluster.settle()
    assert await cluster.overlay() == before
    cluster.configure_phpipam(True)
    await cluster.settle()
    assert not await cluster.records(), "the record in phpIPAM is released"
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "10.2.0.9/24"


@pytest.mark.parametrize("reported", [False, True], ids=["before", "after the agent moved"])
async def test_an_address_that_was_about_to_be_released_holds_the_object(reported: bool) -> None:
    cluster = await Cluster.start(OUTSIDE, INSIDE, feed=False)
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    await cluster.pin("10.2.0.9")
    await cluster.reconcile()
    assert (await cluster.present_overlay())["status"]["releasing"] == [str(HELD)]
    cluster.configure_phpipam(False)
    if reported:
        await cluster.settle()
    await cluster.leave()
    await assert_held(cluster)
    await assert_released_once_configured(cluster)


async def test_routes_only_keeps_the_address_in_the_object_until_it_can_be_released() -> None:
    cluster = await without_phpipam()
    await cluster.set_policy(overlay_addresses=False)
    await cluster.settle()
    assert cluster.kernel is None
    assert (await cluster.present_overlay())["status"]["ipAddr"] == f"{HELD}/24"
    assert (await reserved(cluster))[1] == "IpamNotConfigured"
    cluster.configure_phpipam(True)
    await cluster.settle()
    assert not await cluster.records()
    assert (await reserved(cluster))[1] == "RoutesOnly"


async def test_a_node_that_joins_gets_an_address_from_a_pool_whose_ipam_is_configured() -> None:
    cluster = await Cluster.start(OUTSIDE, INSIDE, feed=False)
    cluster.configure_phpipam(False)
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "10.2.0.2/24"


def router() -> IpamRouter:
    return IpamRouter([ClusterIpam(InMemoryKube(), "c", Caches().known_addresses, dict[str, Pool]().get)])


async def test_an_inventory_without_phpipam_reports_its_pools_as_unread() -> None:
    """Rows of gone nodes and in quarantine have no object: the audit and a drain must not take them for released."""
    read = pool()
    unread = with_facts()
    inventory = await router().inventory((read, unread))
    assert inventory.pools == {read.name}
    (problem,) = inventory.problems
    assert unread.name in problem
    assert "phpIPAM" in problem
    never_read = with_facts(cidr=None)
    assert (await router().inventory((never_read,))).problems == (), "a pool that was never read has no rows of ours"


def with_facts(**status: object) -> Pool:
    raw = raw_phpipam_pool(raw_pool("outside"))
    return Pool.parse(raw | {"status": raw["status"] | status})


async def test_a_pool_without_phpipam_keeps_its_subnet_and_gateway() -> None:
    cluster = await Cluster.start(OUTSIDE, feed=False)

    async def reconcile(ipam: IpamRouter) -> JsonObject:
        controller = await cluster.running()
        api: Any = cluster.kube
        minute, metrics = timedelta(minutes=1), ControllerMetrics()
        await PoolReconciler(api, ipam, controller.caches, minute, metrics, controller.events).reconcile("p1")
        status: JsonObject = (await cluster.kube.get(OVERLAY_POOLS, "p1"))["status"]
        return status

    before = await reconcile((await cluster.running()).ipam)
    after = await reconcile(router())
    assert {key: after.get(key) for key in ("cidr", "gateway", "used", "free", "total")} == {
        key: before[key] for key in ("cidr", "gateway", "used", "free", "total")
    }
    (ready,) = after["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "IpamNotConfigured")


async def test_a_quarantined_row_is_not_forgotten() -> None:
    cluster = await Cluster.start(OUTSIDE, INSIDE, feed=False)
    await cluster.join(raw_node(NAME))
    cluster.foreign_hosts = {HELD}
    await cluster.settle()
    assert (await cluster.records())[HELD].node == QUARANTINE
    cluster.configure_phpipam(False)
    cluster.now = datetime(2026, 1, 2, tzinfo=UTC)
    await cluster.audit()
    assert HELD in await cluster.records()
    cluster.configure_phpipam(True)
    await cluster.audit()
    cluster.now += QUARANTINE_TIME
    await cluster.audit()
    assert HELD not in await cluster.records()
