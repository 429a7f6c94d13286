"""Pools that overlap networks of the cluster itself: reported with these networks, while they serve as before."""

from ipaddress import ip_network
from itertools import count
from typing import Any, Literal

import pytest

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import EventRoutes, Queues
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.net import IpNetwork
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import raw_node, raw_pool
from tests.unit.test_pool_conflicts import consistent


def with_networks(raw: JsonObject, *addresses: str, pods: tuple[str, ...] = ()) -> JsonObject:
    """The Node with these addresses and pod subnets."""
    status = raw["status"] | {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]}
    return raw | {"status": status, "spec": raw["spec"] | {"podCIDRs": list(pods)}}


async def started(*pools: JsonObject, node: JsonObject, source: str = "", subnet: str = "") -> Cluster:
    cluster = await Cluster.start(*pools)
    if source:
        found = ProtectedSubnet(ip_network(subnet), f"{source} of the cluster")
        (await cluster.running()).caches.protected.protect(source, [found])
    await cluster.join(node)
    await cluster.settle()
    return cluster


@pytest.mark.parametrize(
    ("node", "source", "subnet", "named"),
    [
        pytest.param(
            with_networks(raw_node(NAME), "192.168.100.77"),
            "",
            "",
            f"192.168.100.77/32 (address of node {NAME})",
            id="a node's address",
        ),
        pytest.param(
            with_networks(raw_node(NAME), "10.0.0.9", pods=("192.168.0.0/16",)),
            "",
            "",
            f"192.168.0.0/16 (pod subnet of node {NAME})",
            id="a pod subnet around it",
        ),
        pytest.param(
            with_networks(raw_node(NAME), pods=("192.168.100.128/26",)),
            "",
            "",
            f"192.168.100.128/26 (pod subnet of node {NAME})",
            id="a pod subnet in it",
        ),
        *(
            pytest.param(raw_node(NAME), source, subnet, f"{subnet} ({source} of the cluster)", id=source)
            for source, subnet in [
                ("services", "192.168.96.0/20"),
                ("service_subnets", "192.168.100.0/25"),
                ("Calico", "192.168.0.0/16"),
                ("Cilium", "192.168.100.0/24"),
                ("pod_subnets", "192.168.100.64/26"),
            ]
        ),
    ],
)
async def test_pool_that_overlaps_the_cluster_is_reported_and_still_serves(
    node: JsonObject, source: str, subnet: str, named: str
) -> None:
    cluster = await started(raw_pool(), node=node, source=source, subnet=subnet)
    found = await consistent(cluster, "p1")
    assert found is not None
    assert found[:2] == ("False", "OverlapsCluster")
    assert named in found[2]
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "192.168.100.2/24"
    assert await consistent(cluster, "p1") == found


async def test_networks_that_the_pool_excludes_do_not_count() -> None:
    node = with_networks(raw_node(NAME), "192.168.100.77", pods=("192.168.100.128/25",))
    excluded = raw_pool(exclude=["192.168.100.64-192.168.100.80", "192.168.100.128/25"])
    assert await consistent(await started(excluded, node=node), "p1") is None
    partly = raw_pool(exclude=["192.168.100.64-192.168.100.80", "192.168.100.128/26"])
    found = await consistent(await started(partly, node=node), "p1")
    assert found is not None
    assert "192.168.100.128/25" in found[2]
    assert "192.168.100.77" not in found[2]


@pytest.mark.parametrize(
    ("node", "source", "subnet"),
    [
        pytest.param(with_networks(raw_node(NAME), "192.168.101.1", pods=("10.1.0.0/24",)), "", "", id="neighbours"),
        pytest.param(with_networks(raw_node(NAME), "fd00::1", pods=("fd01::/64",)), "", "", id="the other family"),
        pytest.param(raw_node(NAME), "protected_subnets", "192.168.0.0/16", id="a setting for StaticRoutes"),
        pytest.param(raw_node(NAME), "hosts", "192.168.100.9/32", id="a host in the overlay subnet"),
        pytest.param(
            with_networks(raw_node(NAME), "10.0.0.9", "192.168.100.2"), "", "", id="its overlay address in its status"
        ),
    ],
)
async def test_pool_with_a_subnet_of_its_own_is_not_reported(node: JsonObject, source: str, subnet: str) -> None:
    cluster = await started(raw_pool(), node=node, source=source, subnet=subnet)
    assert await consistent(cluster, "p1") is None


async def test_condition_names_a_few_networks_and_both_kinds_of_conflicts() -> None:
    pods = tuple(f"192.168.100.{number * 8}/29" for number in range(20))
    cluster = await started(
        raw_pool(), raw_pool("twin"), node=with_networks(raw_node(NAME), "192.168.100.77", pods=pods)
    )
    found = await consistent(cluster, "p1")
    assert found is not None
    assert found[1] == "Overlap"
    assert "twin" in found[2]
    assert "192.168.100.0/29 (pod subnet of node" in found[2]
    assert "and others" in found[2]
    assert found[2].count("pod subnet") == 5


async def test_pool_is_reconciled_when_such_a_network_appears_changes_or_is_gone() -> None:
    caches, queues = Caches(), Queues()
    caches.pools.replace(Listing((raw_pool(), raw_pool("far", "10.9.0.0/24", "10.9.0.1")), "1"))
    EventRoutes(caches, queues, 0.0)

    async def woken() -> set[str]:
        """The pools in the queue, up to one that is added last."""
        queues.pools.add_after("last", 0.001)
        found: set[str] = set()
        while (name := await queues.pools.get()) != "last":
            queues.pools.done(name)
            found.add(name)
        queues.pools.done("last")
        return found

    versions = count(1)

    def event(kind: Literal["ADDED", "MODIFIED", "DELETED"], *addresses: str, **more: Any) -> None:
        raw = with_networks(raw_node(NAME), *addresses, **more)
        raw["metadata"]["resourceVersion"] = str(next(versions))
        caches.nodes.apply(WatchEvent(kind, raw))

    event("ADDED", "10.0.0.9")
    assert await woken() == set()
    event("MODIFIED", "192.168.100.9")
    assert await woken() == {"p1"}
    event("MODIFIED", "192.168.100.9", pods=("10.9.0.0/26",))
    assert await woken() == {"far"}
    event("DELETED", "192.168.100.9", pods=("10.9.0.0/26",))
    assert await woken() == {"p1", "far"}
    subnets: list[list[IpNetwork]] = [[ip_network("10.9.0.0/16")], [], [ip_network("10.96.0.0/12")]]
    seen = []
    for each in subnets:
        caches.protected.protect("services", [ProtectedSubnet(subnet, "services") for subnet in each])
        seen.append(await woken())
    assert seen == [{"far"}, {"far"}, set()]
