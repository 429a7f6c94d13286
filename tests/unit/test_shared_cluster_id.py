"""Two clusters with one ID in phpIPAM, such as a cluster and its copy: neither keeps releasing records of the other."""

from datetime import timedelta
from typing import Any

import pytest

from overlay_net.controller.pool_reconciler import PoolReconciler
from overlay_net.model.names import NODES, OVERLAY_ADDRESSES, OVERLAY_POOLS
from overlay_net.ops.controller_metrics import ControllerMetrics
from tests.fakes.cluster import NAME, POLICY, Cluster
from tests.unit.factories import raw_node, raw_phpipam_pool, raw_pool

THEIRS, OTHER = "192.168.100.50", "192.168.100.51"


async def start(*, feed: bool = False) -> Cluster:
    return await Cluster.start(raw_pool() if feed else raw_phpipam_pool(raw_pool()), feed=feed)


async def audit(cluster: Cluster, times: int = 2) -> None:
    """Audits that are longer apart than the grace time, each followed by the pool's reconciliation."""
    for _ in range(times):
        cluster.now += timedelta(minutes=6)
        await cluster.audit()
        await reconcile_pool(cluster)


async def reconcile_pool(cluster: Cluster) -> None:
    controller = await cluster.running()
    api: Any = cluster.kube
    subject = PoolReconciler(
        api, controller.ipam, controller.caches, timedelta(minutes=1), ControllerMetrics(), controller.events
    )
    await subject.reconcile("p1")
    controller.deliver()


async def recorded(cluster: Cluster) -> set[str]:
    return {str(each) for each in await cluster.records()}


async def consistent(cluster: Cluster) -> str:
    """The reason of the pool's condition Consistent; empty if it is absent."""
    conditions = (await cluster.kube.get(OVERLAY_POOLS, "p1"))["status"].get("conditions", [])
    return next((str(each["reason"]) for each in conditions if each["type"] == "Consistent"), "")


async def test_a_record_that_comes_back_after_its_release_is_not_released_again() -> None:
    cluster = await start()
    await cluster.take(THEIRS, "their-node", "uid-1")
    await audit(cluster)
    assert await recorded(cluster) == set(), "an orphan like any other"
    await cluster.take(THEIRS, "their-node", "uid-1")
    await audit(cluster, 5)
    assert await recorded(cluster) == {THEIRS}
    assert await consistent(cluster) == "SharedClusterID"
    await cluster.take(OTHER, "another-of-their-nodes")
    await audit(cluster, 5)
    assert await recorded(cluster) == {THEIRS, OTHER}, "nothing else is released either"


async def test_a_restarted_controller_does_not_begin_again() -> None:
    cluster = await start()
    for _ in range(2):
        await cluster.take(THEIRS, "their-node", "uid-1")
        await audit(cluster)
    await cluster.set_policy()
    await reconcile_pool(cluster)
    assert await consistent(cluster) == "SharedClusterID", "also before the first audit"
    await audit(cluster, 5)
    assert await recorded(cluster) == {THEIRS}


async def test_releases_resume_when_the_other_cluster_has_left_no_record() -> None:
    cluster = await start()
    for _ in range(2):
        await cluster.take(THEIRS, "their-node", "uid-1")
        await audit(cluster)
    await cluster.lose_records()
    await audit(cluster)
    assert await consistent(cluster) == ""
    await cluster.take(OTHER, "deleted-node", "uid-2")
    await audit(cluster)
    assert await recorded(cluster) == set()


async def leave(cluster: Cluster) -> None:
    await cluster.leave()
    for _ in range(4):
        await cluster.reconcile()
        await cluster.run_agent()
        cluster.now += POLICY.release_after + POLICY.fence_after


async def test_a_record_that_was_released_with_its_node_and_comes_back_is_kept() -> None:
    cluster = await start()
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    (before,) = await cluster.own_records()
    await leave(cluster)
    assert await recorded(cluster) == set()
    await cluster.take(str(before.address), NAME, uid=before.node_uid)
    await audit(cluster, 3)
    assert await recorded(cluster) == {str(before.address)}
    assert await consistent(cluster) == "SharedClusterID"


async def test_a_deleted_node_keeps_its_address_and_reports_the_reason() -> None:
    cluster = await start()
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    for _ in range(2):
        await cluster.take(THEIRS, "their-node", "uid-1")
        await audit(cluster)
    await leave(cluster)
    (condition,) = [
        each for each in (await cluster.present_overlay())["status"]["conditions"] if each["type"] == "Reserved"
    ]
    assert (condition["reason"], "cluster_id" in condition["message"]) == ("SharedClusterID", True)
    assert len(await cluster.own_records()) == 1
    await cluster.ipam_kube.delete(OVERLAY_ADDRESSES, THEIRS)
    await leave(cluster)
    await audit(cluster)
    await leave(cluster)
    assert (await cluster.overlay(), await recorded(cluster)) == (None, set())


async def test_a_node_that_leaves_and_returns_with_its_address_is_not_taken_for_a_second_cluster() -> None:
    cluster = await start()
    for _ in range(3):
        await cluster.join(raw_node(NAME))
        await cluster.settle()
        assert len(await cluster.own_records()) == 1
        await leave(cluster)
        await audit(cluster)
        assert (await recorded(cluster), await consistent(cluster)) == (set(), "")
    assert await cluster.find(NODES) is None


@pytest.mark.parametrize("times", [1, 3])
async def test_in_cluster_records_that_a_backup_restores_are_released(times: int) -> None:
    cluster = await start(feed=True)
    for _ in range(times):
        await cluster.take(THEIRS, "deleted-node", "uid-2")
        await audit(cluster)
        assert (await recorded(cluster), await consistent(cluster)) == (set(), "")
