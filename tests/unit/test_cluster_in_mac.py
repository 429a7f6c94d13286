"""The MAC of the overlay link: nodes of the same name in two clusters that share a VLAN have different ones."""

from dataclasses import replace
from typing import Any

import pytest

from overlay_net.domain.allocation.node_plan import plan_node
from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    CheckpointContent,
    checkpoint_digest,
    decode_checkpoint,
    encode_checkpoint,
    encode_confirmation,
    is_same_checkpoint,
)
from overlay_net.domain.kernel.desired import stable_mac
from overlay_net.model.node_actions import ApplyOverlay, NodeRoutes, NodeView
from overlay_net.model.overlay import NodeOverlay
from tests.fakes.cluster import CLUSTER, NAME, POLICY, Cluster
from tests.unit.factories import node, overlay, raw_node, raw_pool
from tests.unit.test_checkpoint import THEN
from tests.unit.test_node_agent import OURS, Node

UID = "3f0a8f5e-9d3c-4f0e-8a51-0b8f3f6a7c11"
EARLIER_MAC = stable_mac("n1", "tmp0")
"""Of an object that was written by a controller before it wrote the id of its cluster."""


def of_cluster(cluster: str, **options: Any) -> NodeOverlay:
    spec = {"clusterID": cluster} if cluster else {}
    return overlay(spec=spec, status={"ipAddr": str(OURS), "gateway": "192.168.100.1"}, **options)


def mac(agent: Node) -> str:
    (found,) = [link.mac for link in agent.kernel.fake.links.values() if link.name == "tmp0"]
    return found


async def created_mac(found: NodeOverlay) -> str:
    agent = Node()
    agent.answer(found)
    await agent.reconcile()
    return mac(agent)


async def test_nodes_of_the_same_name_in_two_clusters_have_different_macs() -> None:
    clusters = [UID, UID.replace("3", "4"), "production", "staging", ""]
    assert len({await created_mac(of_cluster(each)) for each in clusters}) == len(clusters)


@pytest.mark.parametrize("cluster", [UID, "production", ""])
async def test_a_created_link_has_the_same_mac_again_also_while_the_api_server_is_down(cluster: str) -> None:
    first = await created_mac(of_cluster(cluster))
    state = encode_checkpoint(of_cluster(cluster))
    restored = decode_checkpoint(CheckpointContent(state, encode_confirmation(checkpoint_digest(state), THEN)), NAME)
    assert isinstance(restored, Checkpoint)
    rebooted = Node(restored.overlay)
    rebooted.checkpoint.api_failed()
    await rebooted.reconcile()
    assert mac(rebooted) == first


def test_the_checkpoint_is_written_again_when_the_cluster_id_becomes_known() -> None:
    earlier = of_cluster("")
    assert not is_same_checkpoint(replace(earlier, cluster=UID), earlier)


async def test_an_existing_link_keeps_its_mac_when_the_cluster_id_becomes_known() -> None:
    agent = Node()
    for found in (of_cluster(""), of_cluster(UID)):
        agent.answer(found)
        await agent.reconcile()
        assert mac(agent) == EARLIER_MAC


async def test_objects_name_the_cluster_from_their_creation_on() -> None:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node(NAME))
    await cluster.reconcile(writes=1)
    assert (await cluster.present_overlay())["spec"]["clusterID"] == CLUSTER
    await cluster.settle()
    assert (await cluster.present_overlay())["spec"]["clusterID"] == CLUSTER


@pytest.mark.parametrize("before", ["", "another id, before the setting cluster_id was changed"])
def test_an_object_without_the_cluster_id_is_written_once(before: str) -> None:
    def plan(found: NodeOverlay) -> list[ApplyOverlay]:
        view = NodeView(found.name, node(), found, NodeRoutes, (), found.created, cluster=UID)  # type: ignore[arg-type]
        routes_only = replace(POLICY, overlay_addresses=False)
        return [action for action in plan_node(view, routes_only).actions if isinstance(action, ApplyOverlay)]

    found = replace(of_cluster(before), routes_only=True, node=node().instance)
    (action,) = plan(found)
    assert action.cluster == UID
    assert not plan(replace(found, cluster=UID))


def test_an_object_that_is_being_deleted_keeps_the_cluster_id() -> None:
    """Its spec is written for the Node that exists now."""
    found = replace(of_cluster(UID, deleting=True), node=node(uid="uid-0").instance)
    view = NodeView(found.name, node(), found, NodeRoutes, (), found.created, cluster=UID)  # type: ignore[arg-type]
    (action,) = [action for action in plan_node(view, POLICY).actions if isinstance(action, ApplyOverlay)]
    assert action.cluster == UID
