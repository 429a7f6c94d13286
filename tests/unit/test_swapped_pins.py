"""Nodes that are pinned to each other's addresses all get theirs, and no address is ever on two of them."""

import random
from collections.abc import Mapping
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.adapters.cluster_ipam import object_name
from overlay_net.model.api import JsonObject
from overlay_net.model.names import OVERLAY_ADDRESSES
from tests.fakes.cluster import Cluster
from tests.unit.factories import raw_node, raw_phpipam_pool, raw_pool

POOL = raw_pool("p1", "10.1.0.0/24", "10.1.0.1")


async def joined(count: int, pool_: JsonObject = POOL, *, feed: bool = True) -> Cluster:
    """Nodes n1 to nCOUNT with the addresses 10.1.0.2 and following ones."""
    cluster = await Cluster.start(pool_, feed=feed)
    for number in range(1, count + 1):
        await cluster.join(raw_node(f"n{number}"))
        await cluster.settle()
    assert addresses(cluster) == {f"n{number}": f"10.1.0.{number + 1}" for number in range(1, count + 1)}
    return cluster


def addresses(cluster: Cluster) -> dict[str, str]:
    return {name: str(kernel.ip) for name, kernel in cluster.kernels.items()}


async def assert_no_duplicate(cluster: Cluster) -> None:
    used = list(addresses(cluster).values())
    assert len(used) == len(set(used))
    records = await cluster.records()
    for name, address in addresses(cluster).items():
        assert records[ip_address(address)].node == name, f"{address} of {name} is recorded for another node"


async def run(cluster: Cluster, steps: int, order: random.Random) -> None:
    """The controller, which may die, and the agents run in any order."""
    for _ in range(steps):
        writes = order.choice([None, None, 0, 1, 2])
        await cluster.reconcile(writes)
        await assert_no_duplicate(cluster)
        for name in cluster.names:
            if order.random() < 0.7:
                await cluster.run_agent(name)
                await assert_no_duplicate(cluster)


async def pin_all(cluster: Cluster, pins: Mapping[str, str]) -> None:
    for name, address in pins.items():
        await cluster.pin(address, name)


@pytest.mark.parametrize("feed", [True, False], ids=["in-cluster", "phpIPAM"])
@pytest.mark.parametrize("count", [2, 3, 5])
async def test_pins_in_a_circle_are_all_fulfilled(count: int, feed: bool) -> None:
    cluster = await joined(count, POOL if feed else raw_phpipam_pool(POOL), feed=feed)
    pins = {f"n{number}": f"10.1.0.{number % count + 2}" for number in range(1, count + 1)}
    await pin_all(cluster, pins)
    for _ in range(count + 2):
        await cluster.settle()
        await assert_no_duplicate(cluster)
    assert addresses(cluster) == pins
    assert {str(address) for address in await cluster.records()} == set(pins.values())
    for name in cluster.names:
        conditions = {
            each["type"]: each["status"] for each in (await cluster.present_overlay(name))["status"]["conditions"]
        }
        assert conditions["Reserved"] == "True"


@given(st.permutations([2, 3, 4, 5]), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
async def test_any_exchange_of_addresses_ends_whatever_comes_first(order: list[int], seed: int) -> None:
    cluster = await joined(4)
    pins = {f"n{number}": f"10.1.0.{last}" for number, last in enumerate(order, start=1)}
    await pin_all(cluster, pins)
    await run(cluster, 12, random.Random(seed))
    for _ in range(6):
        await cluster.settle()
        await assert_no_duplicate(cluster)
    assert addresses(cluster) == pins
    await cluster.close()


async def test_an_exchange_in_a_full_pool_waits_for_one_free_address() -> None:
    cluster = await joined(2, raw_pool("p1", "10.1.0.0/29", "10.1.0.1"))
    for last in (4, 5, 6):
        await cluster.take(f"10.1.0.{last}")
    await pin_all(cluster, {"n1": "10.1.0.3", "n2": "10.1.0.2"})
    await cluster.settle()
    assert addresses(cluster) == {"n1": "10.1.0.2", "n2": "10.1.0.3"}
    (reserved,) = [
        each for each in (await cluster.present_overlay())["status"]["conditions"] if each["type"] == "Reserved"
    ]
    assert (reserved["status"], reserved["reason"]) == ("False", "AddressTaken")
    assert "free address" in reserved["message"]
    await cluster.ipam_kube.delete(OVERLAY_ADDRESSES, object_name(ip_address("10.1.0.5")))
    for _ in range(4):
        await cluster.settle()
    assert addresses(cluster) == {"n1": "10.1.0.3", "n2": "10.1.0.2"}


@pytest.mark.parametrize(
    "pins",
    [
        {"n1": "10.1.0.3"},
        {"n1": "10.1.0.3", "n2": "10.1.0.3"},
        {"n1": "10.1.0.3", "n2": "10.1.0.9"},
        {"n1": "10.1.0.3", "n2": "10.1.0.1"},
        {"n1": "10.1.0.4", "n2": "10.1.0.2", "n3": "10.1.0.255"},
    ],
    ids=["the other is not pinned", "both one", "the other leaves", "a gateway", "no circle"],
)
async def test_a_node_gives_way_only_if_that_lets_all_have_theirs(pins: dict[str, str]) -> None:
    cluster = await joined(3)
    await pin_all(cluster, pins)
    await cluster.reconcile()
    for _ in range(3):
        await cluster.settle()
        await assert_no_duplicate(cluster)
    allowed = {"10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.9"}
    assert set(addresses(cluster).values()) <= allowed, "no node was moved to a free address for nothing"


async def test_a_refused_pin_does_not_keep_a_second_record() -> None:
    cluster = await joined(2)
    await cluster.take("10.1.0.50", "n1")
    await cluster.pin("10.1.0.3", "n1")
    await cluster.settle()
    await cluster.audit()
    await cluster.settle()
    assert {str(address): each.node for address, each in (await cluster.records()).items()} == {
        "10.1.0.2": "n1",
        "10.1.0.3": "n2",
    }
