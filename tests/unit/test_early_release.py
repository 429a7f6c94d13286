"""A full pool under churn: addresses of nodes that are gone are fenced at once if another node waits for one."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.controller import address_demand
from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import EventRoutes, Queues
from overlay_net.domain.allocation.early_release import find_early_releases
from overlay_net.model.api import JsonObject, Listing
from tests.fakes.cluster import POLICY, Cluster
from tests.unit.factories import raw_node, raw_phpipam_pool, raw_pool

SECOND = timedelta(seconds=1)


async def full(*names: str, feed: bool = True, pools: tuple[Any, ...] = (), **options: Any) -> Cluster:
    """These nodes have all addresses of their pool, .2 for the first one and so on; their agents are silent then."""
    size = {1: 30, 5: 29}[len(names)]
    pool = raw_pool("p1", f"10.1.0.0/{size}", "10.1.0.1", **options)
    cluster = await Cluster.start(pool if feed else raw_phpipam_pool(pool), *pools, feed=feed)
    for name in names:
        await cluster.join(raw_node(name))
        await cluster.settle()
    assert len(await cluster.records()) == len(names)
    return cluster


async def address(cluster: Cluster, name: str) -> object:
    return (await cluster.present_overlay(name))["status"].get("ipAddr")


async def is_being_deleted(cluster: Cluster, name: str) -> bool:
    return "deletionTimestamp" in (await cluster.present_overlay(name))["metadata"]


async def leave(cluster: Cluster, name: str) -> None:
    await cluster.leave(name)
    await cluster.reconcile()
    cluster.now += SECOND


async def join(cluster: Cluster, name: str, **options: Any) -> None:
    await cluster.join(raw_node(name, **options))
    await cluster.reconcile()
    await cluster.reconcile()


@pytest.mark.parametrize("feed", [True, False], ids=["in-cluster", "phpIPAM"])
async def test_a_waiting_node_gets_the_address_of_a_gone_one_after_the_fence_time_alone(feed: bool) -> None:
    cluster = await full("n1", feed=feed)
    await leave(cluster, "n1")
    assert not await is_being_deleted(cluster, "n1"), "it may return, and no one needs its address"
    await join(cluster, "n2")
    assert await is_being_deleted(cluster, "n1")
    cluster.now += POLICY.fence_after - SECOND
    await cluster.reconcile()
    assert (await cluster.records())[ip_address("10.1.0.2")].node == "n1", "its kernel may still have it"
    assert await address(cluster, "n2") is None
    cluster.now += 2 * SECOND
    await cluster.reconcile()
    await cluster.reconcile()
    assert await address(cluster, "n2") == "10.1.0.2/30"


async def test_a_node_that_is_deleted_while_another_one_waits_is_fenced_at_once() -> None:
    cluster = await full("n1")
    await join(cluster, "n2")
    await leave(cluster, "n1")
    await cluster.reconcile()
    assert await is_being_deleted(cluster, "n1")


async def test_an_agent_that_releases_its_address_ends_the_wait() -> None:
    cluster = await full("n1")
    await leave(cluster, "n1")
    await join(cluster, "n2")
    await cluster.run_agent("n1")
    await cluster.reconcile()
    await cluster.reconcile()
    assert await address(cluster, "n2") == "10.1.0.2/30"
    assert "n1" not in cluster.kernels


async def test_only_as_many_deleted_nodes_give_up_their_address_as_nodes_wait_and_the_first_deleted_first() -> None:
    names = ("n1", "n2", "n3", "n4", "n5")
    cluster = await full(*names)
    for name in ("n3", "n1", "n5"):
        await leave(cluster, name)
    await join(cluster, "n6")
    assert [name for name in names if await is_being_deleted(cluster, name)] == ["n3"]
    await join(cluster, "n7")
    assert [name for name in names if await is_being_deleted(cluster, name)] == ["n1", "n3"]
    for _ in range(3):
        await cluster.reconcile()
    assert not await is_being_deleted(cluster, "n5"), "it keeps its address for release_after"
    await join(cluster, "n5")
    assert await address(cluster, "n5") == "10.1.0.6/29"


@pytest.mark.parametrize(
    "zone",
    [pytest.param("dal12", id="another zone"), pytest.param("dal13", id="no pool")],
)
async def test_an_address_that_a_waiting_node_cannot_get_is_kept(zone: str) -> None:
    other = raw_pool("other", "10.2.0.0/30", "10.2.0.1", zones=["dal12"])
    cluster = await full("n1", zones=["dal10"], pools=(other,))
    await cluster.take("10.2.0.2")
    await leave(cluster, "n1")
    await join(cluster, "n2", zone=zone)
    await cluster.reconcile()
    assert await address(cluster, "n2") is None
    assert not await is_being_deleted(cluster, "n1")


async def test_a_node_that_waits_for_another_reason_takes_nothing() -> None:
    cluster = await full("n1", feed=False)
    await leave(cluster, "n1")
    cluster.ipam_down = True
    await join(cluster, "n2")
    assert not await is_being_deleted(cluster, "n1")


async def test_a_node_that_has_returned_unnoticed_keeps_its_object() -> None:
    cluster = await full("n1")
    await leave(cluster, "n1")
    cluster.watches_lag = True
    await cluster.join(raw_node("n1"))
    cluster.watches_lag = False
    await join(cluster, "n2")
    assert not await is_being_deleted(cluster, "n1")
    assert await address(cluster, "n1") == "10.1.0.2/30"


def raw_waiting(name: str, version: int = 1) -> JsonObject:
    condition = {"type": "Reserved", "status": "False", "reason": "Exhausted"}
    metadata = {"name": name, "uid": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "status": {"conditions": [condition]}}


def raw_gone(number: int, *, deleting: bool = False) -> JsonObject:
    since = "2026-01-01T00:00:00Z"
    metadata = {"name": f"gone-{number}", "uid": f"gone-{number}", "resourceVersion": "2" if deleting else "1"}
    metadata |= {"deletionTimestamp": since} if deleting else {}
    return {"metadata": metadata, "status": {"ipAddr": f"10.1.0.{number}/24", "nodeGoneSince": since}}


async def test_the_reports_of_many_waiting_nodes_lead_to_one_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    decisions = []

    def counted(*arguments: Any) -> frozenset[str]:
        decisions.append(find_early_releases(*arguments))
        return decisions[-1]

    monkeypatch.setattr(address_demand, "find_early_releases", counted)
    caches, queues = Caches(), Queues()
    caches.pools.replace(Listing((raw_pool("p1", "10.1.0.0/24", "10.1.0.1"),), "1"))
    names = [f"n{number}" for number in range(2, 52)]
    caches.nodes.replace(Listing(tuple(map(raw_node, names)), "1"))
    caches.overlays.replace(Listing(tuple(map(raw_gone, range(2, 92))), "1"))
    routes = EventRoutes(caches, queues, batch=0.001)
    for name in names:
        caches.overlays.set(raw_waiting(name))
    assert not decisions
    key = await queues.wake.get()
    await routes.wake_nodes(key)
    assert len(decisions) == 1
    assert len(decisions[0]) == len(names)
    for name in sorted(decisions[0]):
        caches.overlays.set(raw_gone(int(name.removeprefix("gone-")), deleting=True))
        assert not caches.demand.is_needed(name)
        assert not caches.demand.undecided
    assert len(decisions) == 1, "what was decided is carried out"
    caches.overlays.set(raw_waiting("n1"))
    caches.nodes.set(raw_node("n1"))
    assert len(caches.demand.decide()) == 1


def test_a_decision_holds_while_more_nodes_wait_and_is_withdrawn_once_fewer_do() -> None:
    caches = Caches()
    caches.pools.replace(Listing((raw_pool("p1", "10.1.0.0/24", "10.1.0.1"),), "1"))
    caches.nodes.replace(Listing(tuple(map(raw_node, ("n1", "n2"))), "1"))
    caches.overlays.replace(Listing((*map(raw_gone, range(2, 5)), raw_waiting("n1")), "1"))
    assert caches.demand.decide() == {"gone-2"}
    caches.overlays.set(raw_waiting("n2"))
    assert caches.demand.is_needed("gone-2")
    assert caches.demand.undecided
    assert caches.demand.decide() == {"gone-2", "gone-3"}
    caches.overlays.set(raw_waiting("n1", 2) | {"status": {"ipAddr": "10.1.0.9/24"}})
    assert not any(caches.demand.is_needed(f"gone-{number}") for number in range(2, 5))
    assert caches.demand.decide() == {"gone-2"}
