"""Decisions are made again: labels, pools and subnets that change after a node has its address."""

from typing import Any

import pytest

from overlay_net.domain.allocation.subnet_map import mapped_pools
from overlay_net.model.api import JsonObject
from overlay_net.model.names import NODES
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import raw_node, raw_phpipam_pool, raw_pool

HERE = raw_pool("here", "10.1.0.0/24", "10.1.0.1", zones=["dal10"])
THERE = raw_pool("there", "10.2.0.0/24", "10.2.0.1", zones=["dal12"])
HELD, MOVED = "10.1.0.2/24", "10.2.0.2/24"


async def joined(*pools: JsonObject, feed: bool = True, **options: Any) -> Cluster:
    """A node with an address that its agent does not use yet."""
    cluster = await Cluster.start(*pools, feed=feed)
    await cluster.join(raw_node(NAME, **options))
    await cluster.reconcile()
    return cluster


async def settled(*pools: JsonObject, feed: bool = True, **options: Any) -> Cluster:
    cluster = await joined(*pools, feed=feed, **options)
    await cluster.settle()
    return cluster


async def status(cluster: Cluster) -> JsonObject:
    found: JsonObject = (await cluster.present_overlay())["status"]
    return found


async def address(cluster: Cluster) -> object:
    return (await status(cluster)).get("ipAddr")


async def condition(cluster: Cluster, type_: str = "UpToDate") -> tuple[str, str, str] | None:
    found = [each for each in (await status(cluster))["conditions"] if each["type"] == type_]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None


async def change_zone(cluster: Cluster, zone: str) -> None:
    await cluster.set_labels(**{"topology.kubernetes.io/zone": zone})


def selecting(pool: JsonObject, value: str) -> JsonObject:
    spec = {key: each for key, each in pool["spec"].items() if key != "zones"}
    return pool | {"spec": {**spec, "nodeSelector": {"matchLabels": {"rack": value}}}}


CHANGES: dict[str, tuple[list[JsonObject], list[JsonObject] | None]] = {
    "zone of the node": ([HERE, THERE], None),
    "zones of the pool": (
        [HERE, THERE],
        [HERE | {"spec": {**HERE["spec"], "zones": ["x"]}}, selecting(THERE, "a")],
    ),
    "selector of the pool": (
        [selecting(HERE, "a"), selecting(THERE, "b")],
        [selecting(HERE, "b"), selecting(THERE, "a")],
    ),
}


async def change(cluster: Cluster, pools: list[JsonObject] | None) -> None:
    if pools is None:
        await change_zone(cluster, "dal12")
    else:
        await cluster.set_pools(*pools)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_node_that_another_pool_serves_now_moves_while_nothing_uses_its_address(name: str) -> None:
    before, after = CHANGES[name]
    cluster = await joined(*before, rack="a")
    assert await address(cluster) == HELD
    await change(cluster, after)
    await cluster.settle()
    assert await address(cluster) == MOVED
    assert str(cluster.kernel) == MOVED
    assert [str(each) for each in await cluster.records()] == ["10.2.0.2"]
    assert await condition(cluster) is None


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("how", ["annotation", "deletion"])
async def test_a_node_that_uses_its_address_has_a_condition_and_moves_on_request(name: str, how: str) -> None:
    before, after = CHANGES[name]
    cluster = await settled(*before, rack="a")
    await change(cluster, after)
    await cluster.settle()
    assert await address(cluster) == HELD
    assert str(cluster.kernel) == HELD
    found = await condition(cluster)
    assert found is not None
    assert found[:2] == ("False", "PoolNotSelected")
    command = f"kubectl annotate noip {NAME} iks.ibm.com/renumber=10.1.0.2"
    for text in ("here", "there", command):
        assert text in found[2]
    assert (await cluster.announced()).count("PoolNotSelected") == 1
    unchanged = await cluster.overlay()
    await cluster.settle()
    assert await cluster.overlay() == unchanged
    if how == "annotation":
        await cluster.renumber("10.1.0.2")
        await cluster.reconcile()
        assert len(await cluster.records()) == 2, "the agent still uses the first one"
    else:
        await cluster.delete_overlay()
    await cluster.settle()
    await cluster.settle()
    assert (await address(cluster), str(cluster.kernel)) == (MOVED, MOVED)
    assert [str(each) for each in await cluster.records()] == ["10.2.0.2"]
    assert await condition(cluster) is None


async def test_a_pinned_node_is_not_moved_and_its_pin_is_named() -> None:
    cluster = await joined(HERE, THERE)
    await cluster.pin("10.1.0.2")
    await cluster.reconcile()
    await change_zone(cluster, "dal12")
    await cluster.renumber("10.1.0.2")
    await cluster.settle()
    assert await address(cluster) == HELD
    found = await condition(cluster)
    assert found is not None
    assert found[1] == "PoolNotSelected"
    assert "spec.ipAddr" in found[2]


async def test_a_node_that_returns_in_another_zone_keeps_the_address_that_its_kernel_may_have() -> None:
    cluster = await settled(HERE, THERE)
    await cluster.join(raw_node(NAME, zone="dal12"))
    await cluster.settle()
    assert (await address(cluster), str(cluster.kernel)) == (HELD, HELD)
    assert (await condition(cluster) or ("", ""))[1] == "PoolNotSelected"
    (record,) = await cluster.own_records()
    assert record.node_uid == (await cluster.kube.get(NODES, NAME))["metadata"]["uid"]
    await cluster.renumber("10.1.0.2")
    await cluster.settle()
    assert str(cluster.kernel) == MOVED


async def test_an_annotation_about_an_earlier_address_does_nothing() -> None:
    cluster = await settled(HERE)
    await cluster.renumber("10.1.0.77")
    await cluster.settle()
    assert await address(cluster) == HELD


async def test_a_node_is_renumbered_on_request_although_nothing_is_outdated() -> None:
    cluster = await settled(HERE)
    await cluster.renumber("10.1.0.2")
    await cluster.settle()
    assert (await address(cluster), await condition(cluster)) == ("10.1.0.3/24", None)
    await cluster.settle()
    assert [str(each) for each in await cluster.records()] == ["10.1.0.3"]


async def test_a_zone_label_that_is_set_late_moves_the_node_from_the_fallback_pool() -> None:
    without_zone = {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "DoesNotExist"}]}
    fallback = raw_pool("fallback", "10.9.0.0/24", "10.9.0.1", nodeSelector=without_zone)
    cluster = await Cluster.start(fallback, HERE)
    node = raw_node(NAME)
    del node["metadata"]["labels"]["topology.kubernetes.io/zone"]
    await cluster.join(node)
    await cluster.reconcile()
    assert await address(cluster) == "10.9.0.2/24"
    await change_zone(cluster, "dal10")
    await cluster.settle()
    assert (await address(cluster), await condition(cluster)) == (HELD, None)


async def test_a_move_that_has_to_wait_for_a_free_address_keeps_the_present_one() -> None:
    full = raw_pool("there", "10.2.0.0/30", "10.2.0.1", zones=["dal12"])
    cluster = await joined(HERE, full)
    await cluster.take("10.2.0.2")
    await change_zone(cluster, "dal12")
    await cluster.reconcile()
    assert await address(cluster) == HELD
    found = await condition(cluster)
    assert found is not None
    assert "no free address" in found[2]
    assert (await condition(cluster, "Reserved") or ("",))[0] == "True"
    before = await cluster.overlay()
    await cluster.reconcile()
    assert await cluster.overlay() == before
    await cluster.lose_records()
    await cluster.take("10.1.0.2", NAME)
    await cluster.settle()
    assert await address(cluster) == "10.2.0.2/30"


async def test_an_address_that_the_earlier_operators_agent_uses_is_not_moved() -> None:
    cluster = await joined(HERE, THERE)
    await cluster.set_status({"interface": "eth0", "interfaceLabel": "tmp0"})
    await change_zone(cluster, "dal12")
    await cluster.reconcile()
    assert await address(cluster) == HELD
    assert (await condition(cluster) or ("", ""))[1] == "PoolNotSelected"


async def test_a_node_whose_zone_no_pool_serves_keeps_its_address_with_a_condition() -> None:
    cluster = await joined(HERE)
    await change_zone(cluster, "dal13")
    await cluster.settle()
    assert await address(cluster) == HELD
    found = await condition(cluster)
    assert found is not None
    assert found[1] == "PoolNotSelected"
    assert "dal13" in found[2]
    await change_zone(cluster, "dal10")
    await cluster.settle()
    assert await condition(cluster) is None


EXCLUDED = {
    "excluded": raw_pool("here", "10.1.0.0/24", "10.1.0.1", exclude=["10.1.0.2"]),
    "gateway": raw_pool("here", "10.1.0.0/24", "10.1.0.2"),
}


@pytest.mark.parametrize("name", EXCLUDED)
async def test_an_address_that_its_pool_no_longer_assigns_is_moved_while_unused(name: str) -> None:
    cluster = await joined(HERE)
    await cluster.set_pools(EXCLUDED[name])
    await cluster.settle()
    assert await address(cluster) == ("10.1.0.3/24" if name == "excluded" else "10.1.0.1/24")


@pytest.mark.parametrize("name", EXCLUDED)
async def test_an_address_in_use_that_its_pool_no_longer_assigns_is_reported(name: str) -> None:
    cluster = await settled(HERE)
    await cluster.set_pools(EXCLUDED[name])
    await cluster.settle()
    assert await address(cluster) == HELD
    found = await condition(cluster)
    assert found is not None
    assert found[1] == "AddressExcluded"
    assert name in found[2]


async def test_a_gateway_of_another_pool_at_a_nodes_address_is_reported_on_the_node() -> None:
    cluster = await settled(HERE)
    await cluster.set_pools(HERE, raw_pool("other", "10.1.0.0/25", "10.1.0.2", zones=["x"]))
    await cluster.settle()
    assert (await condition(cluster) or ("", ""))[1] == "AddressExcluded"


@pytest.mark.parametrize("joining", [True, False], ids=["unused", "in use"])
async def test_a_resized_phpipam_subnet_changes_the_prefix_length_of_its_addresses(joining: bool) -> None:
    before = raw_phpipam_pool(raw_pool("p1", "10.4.0.0/24", "10.4.0.1"))
    after = raw_phpipam_pool(raw_pool("p1", "10.4.0.0/23", "10.4.1.254"))
    cluster = await (joined if joining else settled)(before, feed=False)
    assert await address(cluster) == "10.4.0.2/24"
    await cluster.set_pools(after)
    await cluster.settle()
    assert (await address(cluster), str(cluster.kernel)) == ("10.4.0.2/23", "10.4.0.2/23")
    assert (await status(cluster))["gateway"] == "10.4.1.254"
    assert await condition(cluster) is None


async def test_a_resized_subnet_needs_no_request_to_the_ipam_for_each_node() -> None:
    cluster = await settled(raw_phpipam_pool(raw_pool("p1", "10.4.0.0/24", "10.4.0.1")), feed=False)
    await cluster.set_pools(raw_phpipam_pool(raw_pool("p1", "10.4.0.0/23", "10.4.0.1")))
    cluster.ipam_down = True
    assert await cluster.reconcile(), "the IPAM was asked"
    assert await address(cluster) == "10.4.0.2/23"


async def test_a_phpipam_subnet_that_shrinks_below_an_address_is_reported() -> None:
    cluster = await settled(raw_phpipam_pool(raw_pool("p1", "10.4.0.0/24", "10.4.0.1")), feed=False)
    await cluster.set_pools(raw_phpipam_pool(raw_pool("p1", "10.4.0.128/25", "10.4.0.129")))
    await cluster.settle()
    assert await address(cluster) == "10.4.0.2/24"
    found = await condition(cluster)
    assert found is not None
    assert found[1] == "PoolMissing"
    assert "10.4.0.128/25" in found[2]


def raw_mapped(zone: str, subnet: int, cidr: str, gateway: str) -> JsonObject:
    """A pool that the controller made from the earlier operator's subnetMap, and has read."""
    (made,) = mapped_pools({zone: [subnet]})
    return raw_phpipam_pool(raw_pool(made.name, cidr, gateway, zones=[zone]), subnet)


@pytest.mark.parametrize("joining", [True, False], ids=["unused", "in use"])
async def test_a_node_of_a_subnet_map_whose_zone_changes(joining: bool) -> None:
    here = raw_mapped("dal10", 7, "10.1.0.0/24", "10.1.0.1")
    there = raw_mapped("dal12", 9, "10.2.0.0/24", "10.2.0.1")
    cluster = await (joined if joining else settled)(here, there, feed=False)
    await change_zone(cluster, "dal12")
    await cluster.settle()
    assert await address(cluster) == (MOVED if joining else HELD)
    assert ((await condition(cluster)) is None) == joining


async def test_a_subnet_that_a_map_has_for_two_zones_is_right_for_both() -> None:
    here, there = (raw_mapped(zone, 7, "10.1.0.0/24", "10.1.0.1") for zone in ("dal10", "dal12"))
    cluster = await settled(here, there, feed=False)
    await change_zone(cluster, "dal12")
    await cluster.settle()
    assert await address(cluster) == HELD
    assert (await status(cluster))["pool"] == there["metadata"]["name"]
    assert await condition(cluster) is None


# --- A pool under another name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", [True, False], ids=["in-cluster", "phpIPAM"])
async def test_a_renamed_pool_keeps_giving_its_gateway_to_its_nodes(feed: bool) -> None:
    def named(name: str, gateway: str = "10.1.0.1") -> JsonObject:
        raw = raw_pool(name, "10.1.0.0/24", gateway)
        return raw if feed else raw_phpipam_pool(raw)

    cluster = await settled(named("old"), feed=feed)
    await cluster.set_pools(named("new"))
    await cluster.settle()
    assert (await status(cluster))["pool"] == "new"
    await cluster.set_pools(named("new", gateway="10.1.0.254"))
    await cluster.settle()
    assert (await status(cluster))["gateway"] == "10.1.0.254"
    assert (await address(cluster), str(cluster.kernel)) == (HELD, HELD)
    assert await condition(cluster) is None
    await cluster.audit()
    before = await cluster.overlay()
    await cluster.settle()
    assert await cluster.overlay() == before


@pytest.mark.parametrize("feed", [True, False], ids=["in-cluster", "phpIPAM"])
async def test_without_a_pool_that_contains_the_address_the_pool_is_missing(feed: bool) -> None:
    def made(name: str, cidr: str, gateway: str, **spec: Any) -> JsonObject:
        raw = raw_pool(name, cidr, gateway, **spec)
        return raw if feed else raw_phpipam_pool(raw)

    cluster = await settled(made("old", "10.1.0.0/24", "10.1.0.1"), feed=feed)
    elsewhere = made("elsewhere", "10.1.0.0/24", "10.1.0.254", zones=["x"])
    await cluster.set_pools(elsewhere, made("other", "10.7.0.0/24", "10.7.0.1"))
    await cluster.settle()
    found = await condition(cluster)
    assert found is not None
    assert found[:2] == ("False", "PoolMissing")
    assert "old" in found[2]
    assert (await address(cluster), (await status(cluster))["gateway"]) == (HELD, "10.1.0.1")
    await cluster.set_pools(made("old", "10.1.0.0/24", "10.1.0.253"))
    await cluster.settle()
    assert await condition(cluster) is None
    assert (await status(cluster))["gateway"] == "10.1.0.253"


async def test_a_record_of_a_renamed_pool_gives_the_prefix_length_of_the_pool_to_a_node_that_returns() -> None:
    cluster = await settled(raw_pool("old", "10.1.0.0/24", "10.1.0.1"))
    await cluster.set_pools(raw_pool("new", "10.1.0.0/24", "10.1.0.1"))
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert await address(cluster) == HELD
    assert "RecordEdited" not in await cluster.announced()
    (record,) = await cluster.own_records()
    assert record.pool == "new"


# --- IP families -----------------------------------------------------------------------------------------------------

SIX = raw_pool("six", "fd00::/64", "fd00::1", priority=200)


@pytest.mark.parametrize("feed", [True, False], ids=["in-cluster", "phpIPAM"])
async def test_a_full_pool_does_not_change_the_family_of_a_node(feed: bool) -> None:
    full = raw_pool("four", "10.1.0.0/30", "10.1.0.1")
    cluster = await Cluster.start(full if feed else raw_phpipam_pool(full), SIX, feed=feed)
    await cluster.take("10.1.0.2")
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert await address(cluster) is None
    found = await condition(cluster, "Reserved")
    assert found is not None
    assert found[:2] == ("False", "Exhausted")
    assert "IPv4" in found[2]
    await cluster.lose_records()
    await cluster.settle()
    assert await address(cluster) == "10.1.0.2/30"


async def test_a_second_pool_of_the_same_family_is_used() -> None:
    cluster = await Cluster.start(
        raw_pool("four", "10.1.0.0/30", "10.1.0.1"), SIX, raw_pool("more", "10.2.0.0/24", "10.2.0.1", priority=300)
    )
    await cluster.take("10.1.0.2")
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert await address(cluster) == MOVED


async def test_the_first_pool_that_serves_a_node_decides_although_it_is_unusable() -> None:
    broken = raw_pool("four", "10.1.0.0/24", "10.99.0.1")
    cluster = await settled(broken, SIX)
    assert await address(cluster) is None
    found = await condition(cluster, "Reserved")
    assert found is not None
    assert found[1] == "NoPool"
    assert "IPv4" in found[2]


async def test_nodes_of_pools_of_one_family_each_get_that_family() -> None:
    cluster = await settled(raw_pool("six", "fd00::/64", "fd00::1"), raw_pool("four", zones=["x"]))
    assert await address(cluster) == "fd00::2/64"


async def test_a_node_that_loses_its_address_gets_another_one_of_the_same_family() -> None:
    cluster = await settled(raw_pool("four", "10.1.0.0/29", "10.1.0.1"))
    await cluster.set_pools(raw_pool("four", "10.1.0.0/29", "10.1.0.1"), SIX | {"spec": {**SIX["spec"], "priority": 1}})
    await cluster.lose_records()
    await cluster.take("10.1.0.2")
    await cluster.settle()
    assert await address(cluster) == "10.1.0.3/29"


async def test_a_pinned_address_may_be_of_another_family() -> None:
    cluster = await settled(raw_pool("four", "10.1.0.0/29", "10.1.0.1"), SIX)
    await cluster.pin("fd00::9")
    await cluster.settle()
    assert await address(cluster) == "fd00::9/64"
