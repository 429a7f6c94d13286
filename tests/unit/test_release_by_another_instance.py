"""An object that is being deleted is released by the agent that runs on the node now, whatever happened meanwhile.

The object of a node that was gone longer than ``release_after`` is deleted; its agent must confirm that the kernel has
no address. That may be the agent of a later boot, or of a Node that was created again.
"""

import pytest

from overlay_net.model.names import NODES
from tests.fakes.cluster import NAME, POLICY, Cluster
from tests.unit.factories import raw_node, raw_pool


async def started() -> Cluster:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node(NAME, boot="boot-1"))
    cluster.boot = "boot-1"
    await cluster.settle()
    return cluster


async def deleted_before(cluster: Cluster) -> str:
    """Return the uid of the object, which is being deleted and whose agent has not answered."""
    found = (await cluster.present_overlay())["metadata"]
    assert "deletionTimestamp" in found
    assert await cluster.own_records() != []
    return str(found["uid"])


async def check_that_the_node_has_a_new_object(cluster: Cluster, before: str) -> None:
    found = await cluster.present_overlay()
    assert found["metadata"]["uid"] != before
    assert "deletionTimestamp" not in found["metadata"]
    assert str(cluster.kernel) == found["status"]["ipAddr"]
    assert len(await cluster.own_records()) == 1


@pytest.mark.parametrize("boot", ["boot-2", ""])
async def test_a_node_that_boots_while_its_object_is_deleted_gets_another_object(boot: str) -> None:
    cluster = await started()
    await cluster.delete_overlay()
    await cluster.reconcile()
    before = await deleted_before(cluster)
    cluster.boot = boot
    change = {"status": {"nodeInfo": {"bootID": boot}}}
    await cluster.kube.merge_patch(NODES, NAME, change, subresource="status")
    await cluster.settle()
    await check_that_the_node_has_a_new_object(cluster, before)


@pytest.mark.parametrize("agent_first", [True, False])
async def test_a_node_that_returns_while_its_object_is_deleted_gets_another_object(agent_first: bool) -> None:
    cluster = await started()
    await cluster.leave()
    await cluster.reconcile()
    cluster.now += POLICY.release_after
    await cluster.reconcile()
    before = await deleted_before(cluster)
    cluster.now += POLICY.fence_after / 2
    cluster.boot = "boot-2"
    if agent_first:
        await cluster.run_agent()
    await cluster.join(raw_node(NAME, boot="boot-2"))
    await cluster.settle()
    await check_that_the_node_has_a_new_object(cluster, before)


@pytest.mark.parametrize("dies_after", range(3))
async def test_the_report_of_the_boot_before_does_not_release_the_address(dies_after: int) -> None:
    cluster = await started()
    await cluster.delete_overlay()
    await cluster.reconcile()
    before = await deleted_before(cluster)
    # The kubelet of the machine that replaces the present one, whose agent still runs.
    change = {"status": {"nodeInfo": {"bootID": "boot-2"}}}
    await cluster.kube.merge_patch(NODES, NAME, change, subresource="status")
    await cluster.reconcile(writes=dies_after)
    await cluster.reconcile()
    assert await deleted_before(cluster) == before
    cluster.boot = "boot-2"
    await cluster.settle()
    await check_that_the_node_has_a_new_object(cluster, before)


async def test_a_drain_releases_the_address_of_a_node_that_boots_meanwhile() -> None:
    cluster = await started()
    await cluster.set_policy(draining=True)
    await cluster.reconcile()
    await deleted_before(cluster)
    cluster.boot = "boot-2"
    change = {"status": {"nodeInfo": {"bootID": "boot-2"}}}
    await cluster.kube.merge_patch(NODES, NAME, change, subresource="status")
    await cluster.settle()
    assert await cluster.overlay() is None
    assert await cluster.own_records() == []
