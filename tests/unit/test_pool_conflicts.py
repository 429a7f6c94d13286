"""Pools that contradict each other: what people read on each of them, and what is never handed out."""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import EventRoutes, Queues
from overlay_net.controller.pool_reconciler import PoolReconciler
from overlay_net.domain.allocation.pool_addresses import capacity, free_addresses, may_hand_out
from overlay_net.domain.allocation.pool_conflicts import find_pool_conflicts, with_other_gateways
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.names import OVERLAY_POOLS
from overlay_net.model.pool import Pool
from overlay_net.ops.controller_metrics import ControllerMetrics
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import pool, raw_node, raw_phpipam_pool, raw_pool

WIDE = raw_pool("wide")
SAME = raw_pool("same-other-gateway", gateway="192.168.100.254", priority=1)
NARROW = raw_pool("narrow", "192.168.100.0/29", "192.168.100.6", priority=2)
OUTSIDE = raw_phpipam_pool(raw_pool("outside", "192.168.100.128/25", "192.168.100.129"))


async def consistent(cluster: Cluster, name: str) -> tuple[str, str, str] | None:
    """Status, reason and message of the condition after the pool was reconciled; None if it is absent."""
    controller = await cluster.running()
    api: Any = cluster.kube
    metrics = ControllerMetrics()
    subject = PoolReconciler(api, controller.ipam, controller.caches, timedelta(minutes=1), metrics, controller.events)
    await subject.reconcile(name)
    status = (await cluster.kube.get(OVERLAY_POOLS, name))["status"]
    found = [each for each in status["conditions"] if each["type"] == "Consistent"]
    shown = metrics.registry.get_sample_value
    for reason in ("Overlap", "GatewayInOtherPool", "GatewayInUse"):
        value = shown("overlay_net_pool_inconsistent", {"pool": name, "reason": reason})
        assert value == (1 if found and found[0]["reason"] == reason else None)
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None


async def test_three_pools_over_one_subnet_name_each_other_and_hand_out_no_gateway() -> None:
    cluster = await Cluster.start(WIDE, SAME, NARROW)
    names = ["wide", "same-other-gateway", "narrow"]
    for name in names:
        found = await consistent(cluster, name)
        assert found is not None
        assert found[:2] == ("False", "GatewayInOtherPool")
        for other in set(names) - {name}:
            assert other in found[2]
    resolved = with_other_gateways(map(Pool.parse, (WIDE, SAME, NARROW)))
    for each in resolved:
        for gateway in ("192.168.100.1", "192.168.100.254", "192.168.100.6"):
            assert not may_hand_out(each, ip_address(gateway))


@pytest.mark.parametrize(
    ("pools", "reason"),
    [
        pytest.param(
            [WIDE, raw_pool("half", "192.168.100.0/25", "192.168.100.1")], "Overlap", id="a half, one gateway"
        ),
        pytest.param([WIDE, raw_pool("twin")], "Overlap", id="the same subnet and gateway"),
        pytest.param(
            [WIDE, raw_pool("half", "192.168.100.128/25", "192.168.100.129")],
            "GatewayInOtherPool",
            id="a gateway inside",
        ),
        pytest.param([WIDE, OUTSIDE], "GatewayInOtherPool", id="a phpIPAM subnet whose range is known"),
        pytest.param(
            [raw_pool("six", "fd00::/64", "fd00::1"), raw_pool("seven", "fd00::/96", "fd00::1")], "Overlap", id="IPv6"
        ),
    ],
)
async def test_an_overlap_is_reported_on_both_pools_and_once_as_event(pools: Sequence[JsonObject], reason: str) -> None:
    cluster = await Cluster.start(*pools, feed=False)
    names = [raw["metadata"]["name"] for raw in pools]
    found = find_pool_conflicts(map(Pool.parse, pools))
    for name, other in (names, names[::-1]):
        assert found[name].reason == reason
        assert other in found[name].message
    for name in names:
        if name != "outside":
            shown = await consistent(cluster, name)
            assert shown is not None
            assert shown[1] == reason


@pytest.mark.parametrize(
    "pools",
    [
        pytest.param(
            [raw_pool("a", "10.1.0.0/24", "10.1.0.1"), raw_pool("b", "10.1.1.0/24", "10.1.1.1")], id="neighbours"
        ),
        pytest.param([WIDE, raw_pool("six", "fd00::/64", "fd00::1")], id="both families"),
        pytest.param([OUTSIDE, OUTSIDE | {"metadata": {"name": "zone-2", "uid": "2"}}], id="one phpIPAM subnet twice"),
        pytest.param([WIDE, raw_phpipam_pool(WIDE) | {"status": {}}], id="a phpIPAM subnet that was never read"),
        pytest.param([WIDE], id="one pool"),
    ],
)
def test_pools_that_do_not_contradict_each_other_are_not_reported(pools: Sequence[JsonObject]) -> None:
    assert find_pool_conflicts(map(Pool.parse, pools)) == {}


async def test_a_gateway_that_a_node_uses_is_reported_and_names_the_node() -> None:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert await consistent(cluster, "p1") is None
    await cluster.set_pools(raw_pool(gateway="192.168.100.2"))
    found = await consistent(cluster, "p1")
    assert found is not None
    assert found[:2] == ("False", "GatewayInUse")
    assert NAME in found[2]
    assert "192.168.100.2" in found[2]
    await cluster.set_pools(raw_pool())
    assert await consistent(cluster, "p1") is None, "the condition is absent once nothing is wrong"


async def test_nodes_get_no_gateway_of_another_pool_and_free_counts_none() -> None:
    tight = raw_pool("tight", "10.0.0.0/29", "10.0.0.1")
    inside = raw_pool("inside", "10.0.0.0/30", "10.0.0.2", zones=["elsewhere"])
    cluster = await Cluster.start(tight, inside)
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "10.0.0.3/29"
    await consistent(cluster, "tight")
    status = (await cluster.kube.get(OVERLAY_POOLS, "tight"))["status"]
    assert (status["used"], status["free"], status["total"]) == (1, 3, 4)


@given(st.lists(st.tuples(st.integers(26, 30), st.integers(0, 63), st.integers(1, 62)), min_size=1, max_size=6))
def test_no_pool_hands_out_a_gateway_of_any_pool(pools: list[tuple[int, int, int]]) -> None:
    built = []
    for number, (length, start, gateway) in enumerate(pools):
        size = 1 << (32 - length)
        first = start // size * size
        built.append(pool(f"p{number}", f"10.0.0.{first}/{length}", f"10.0.0.{first + 1 + gateway % (size - 2)}"))
    gateways = {each.gateway for each in built}
    for each in with_other_gateways(built):
        listed = list(free_addresses(each, set()))
        assert not gateways & set(listed)
        assert len(listed) == capacity(each)
    found = find_pool_conflicts(built)
    for one in built:
        overlapping = [other for other in built if other != one and one.cidr.overlaps(other.cidr)]  # type: ignore[union-attr,arg-type]
        assert (one.name in found) == bool(overlapping)
        for other in overlapping:
            assert other.name in found[one.name].message


async def test_pools_whose_conflicts_change_are_reconciled_and_no_others() -> None:
    caches, queues = Caches(), Queues()
    caches.pools.replace(Listing((WIDE, raw_pool("far", "10.9.0.0/24", "10.9.0.1")), "1"))
    EventRoutes(caches, queues, 0.0)
    caches.pools.apply(WatchEvent("ADDED", NARROW))
    woken = set()
    while len(queues.pools):
        woken.add(await queues.pools.get())
    assert woken == {"wide", "narrow"}


async def test_a_record_wakes_the_pools_that_contain_it_under_whatever_name() -> None:
    caches, queues = Caches(), Queues()
    caches.pools.replace(Listing((WIDE, NARROW, raw_pool("far", "10.9.0.0/24", "10.9.0.1")), "1"))
    EventRoutes(caches, queues, 0.0)
    record = {"address": "192.168.100.2", "node": NAME, "pool": "an-earlier-name"}
    caches.records.apply(WatchEvent("ADDED", {"metadata": {"name": "192.168.100.2", "uid": "1"}, "spec": record}))
    woken = {await queues.pools.get(), await queues.pools.get()}
    assert woken == {"wide", "narrow"}
