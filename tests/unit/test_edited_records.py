"""Records that people edit: a node keeps the address that it shows, and never uses one that another node shows."""

from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.model.api import JsonObject
from overlay_net.model.names import NODE_OVERLAY_IPS
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import raw_node, raw_phpipam_pool, raw_pool

FIRST, OTHER = "192.168.100.2", "192.168.100.77"


async def settled(*pools: JsonObject, feed: bool = True) -> Cluster:
    cluster = await Cluster.start(*(pools if feed else map(raw_phpipam_pool, pools)), feed=feed)
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    return cluster


async def status(cluster: Cluster) -> Any:
    return (await cluster.present_overlay())["status"]


async def reserved(cluster: Cluster) -> tuple[str, str, str]:
    (condition,) = [each for each in (await status(cluster))["conditions"] if each["type"] == "Reserved"]
    return condition["status"], condition["reason"], condition["message"]


async def messages(cluster: Cluster, reason: str) -> list[str]:
    return [each["note"] for each in await cluster.events() if each["reason"] == reason]


async def settle_after_audit(cluster: Cluster) -> None:
    await cluster.audit()
    await cluster.settle()


@pytest.mark.parametrize("feed", [True, False], ids=["in-cluster", "phpIPAM"])
@pytest.mark.parametrize("others", [(OTHER,), ("192.168.100.3", OTHER)], ids=["one record", "two records"])
async def test_a_node_whose_record_has_another_address_is_not_renumbered(feed: bool, others: tuple[str, ...]) -> None:
    cluster = await settled(raw_pool(), feed=feed)
    before = await status(cluster)
    await cluster.lose_records()
    for address in others:
        await cluster.take(address, NAME)
    await settle_after_audit(cluster)
    assert await status(cluster) == before
    assert [str(each) for each in await cluster.records()] == [FIRST], "its address has a record again"
    (message,) = await messages(cluster, "RecordEdited")
    for address in (FIRST, *others):
        assert address in message


@pytest.mark.parametrize("lower", ["192.168.100.1", "192.168.100.255"], ids=["gateway", "broadcast"])
async def test_a_record_of_an_unusable_address_instead_of_the_nodes_own_is_released(lower: str) -> None:
    cluster = await settled(raw_pool())
    await cluster.lose_records()
    await cluster.take(lower, NAME)
    await settle_after_audit(cluster)
    assert [str(each) for each in await cluster.records()] == [FIRST]


async def test_a_record_moved_away_is_used_only_if_another_node_has_the_address() -> None:
    cluster = await settled(raw_pool())
    await cluster.lose_records()
    await cluster.take(OTHER, NAME)
    await cluster.take(FIRST, "another-node")
    await settle_after_audit(cluster)
    assert (await status(cluster))["ipAddr"] == f"{OTHER}/24"
    assert await messages(cluster, "AddressLost")
    assert {str(address): each.node for address, each in (await cluster.records()).items()} == {
        FIRST: "another-node",
        OTHER: NAME,
    }


@pytest.mark.parametrize("feed", [True, False], ids=["in-cluster", "phpIPAM"])
async def test_a_record_of_an_address_that_another_node_shows_is_not_used(feed: bool) -> None:
    """The row of the other node was deleted, this node got the address, and its controller ended before it noticed."""
    pools = [raw_pool()] if feed else [raw_phpipam_pool(raw_pool())]
    cluster = await Cluster.start(*pools, feed=feed)
    await cluster.kube.create(NODE_OVERLAY_IPS, {"metadata": {"name": "another-node"}, "spec": {}})
    change = {"status": {"ipAddr": f"{FIRST}/24"}}
    await cluster.kube.merge_patch(NODE_OVERLAY_IPS, "another-node", change, subresource="status")
    await cluster.take(FIRST, NAME)
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert (await status(cluster))["ipAddr"] == "192.168.100.3/24"
    assert [str(each.address) for each in await cluster.own_records()] == ["192.168.100.3"]
    assert ip_address(FIRST) not in await cluster.records()
