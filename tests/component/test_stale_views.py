"""A controller whose view of the cluster is old, or that finds what another one left: nobody loses anything."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest
from overlay_net.adapters.cluster_ipam import ClusterIpam
from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam_checks import IpamChecks
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.node_reconciler import NodeReconciler
from overlay_net.model.api import Listing
from overlay_net.model.errors import Conflict
from overlay_net.model.ipam import Owner
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, NODE_OVERLAY_IPS, NODES, OVERLAY_ADDRESSES, OVERLAY_POOLS
from overlay_net.model.node_actions import LifecyclePolicy
from overlay_net.ops.events import EventRecorder
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.test_controller import add_pool, addresses, create, join, records

POLICY = LifecyclePolicy(release_after=timedelta(), fence_after=timedelta())


@pytest.fixture
async def caches() -> Caches:
    """Everything was listed once, when there was nothing."""
    caches = Caches()
    for store in caches.stores:
        store.replace(Listing((), "1"))
    return caches


@pytest.fixture
def reconciler(admin: KubeApi, caches: Caches) -> Callable[[], NodeReconciler]:
    def make() -> NodeReconciler:
        ipam = IpamRouter([ClusterIpam(admin, "c", caches.known_addresses, caches.pools.get)])
        events = EventRecorder(admin, CONTROLLER_FIELD_MANAGER, "test")
        return NodeReconciler(admin, ipam, caches, "c", POLICY, events, IpamChecks(caches, lambda _: None))

    return make


async def test_a_watch_of_nodes_that_stands_still_does_not_end_a_living_node(
    admin: KubeApi, caches: Caches, reconciler: Callable[[], NodeReconciler]
) -> None:
    await join(admin, "n1")
    made = await create(admin, NODE_OVERLAY_IPS, "n1", {}, finalizers=["finalizer.iks.ibm.com"])
    body = {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": NODE_OVERLAY_IPS.kind, "metadata": {"name": "n1"}}
    status = {"ipAddr": "192.168.100.4/24", "nodeUID": "old", "nodeGoneSince": "2026-01-01T00:00:00Z"}
    shown = await admin.apply(
        NODE_OVERLAY_IPS, "n1", body | {"status": status}, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status"
    )
    assert shown["metadata"]["uid"] == made["metadata"]["uid"]
    caches.overlays.replace(Listing((shown,), "2"))
    assert caches.nodes.get("n1") is None
    subject = reconciler()
    await subject.reconcile("n1")
    assert "deletionTimestamp" not in (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]
    await create(admin, OVERLAY_ADDRESSES, "192.168.100.4", RECORD, labels={"node": "n1"})
    await admin.delete(NODE_OVERLAY_IPS, "n1")
    caches.overlays.replace(Listing((await admin.get(NODE_OVERLAY_IPS, "n1"),), "3"))
    await subject.reconcile_address("n1")
    assert "192.168.100.4" in await records(admin), "the node is there, whatever its watch says: nothing is fenced"


RECORD = {"address": "192.168.100.4", "pool": "p1", "node": "n1", "nodeUID": "old"}


async def test_an_object_that_was_not_seen_yet_keeps_its_routes(
    admin: KubeApi, caches: Caches, reconciler: Callable[[], NodeReconciler]
) -> None:
    await join(admin, "n1")
    caches.nodes.replace(Listing((await admin.get(NODES, "n1"),), "2"))
    routes = [{"subnet": "10.1.0.0/16", "staticRoute": "r1", "gateways": [{"address": "192.168.100.1"}]}]
    await create(admin, NODE_OVERLAY_IPS, "n1", {"routes": routes})
    assert await reconciler().reconcile("n1") is not None, "it looks again"
    assert (await admin.get(NODE_OVERLAY_IPS, "n1"))["spec"]["routes"] == routes


async def test_addresses_of_the_earlier_operator_are_not_given_to_newcomers(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    old = {f"old-{last}": f"192.168.100.{last}" for last in range(2, 8)}
    for name, address in old.items():
        await create(admin, NODE_OVERLAY_IPS, name, {}, finalizers=["finalizer.iks.ibm.com"])
        body = {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": NODE_OVERLAY_IPS.kind, "metadata": {"name": name}}
        status = {"ipAddr": f"{address}/24", "gateway": "192.168.100.1", "interface": "eth0", "interfaceLabel": "tmp0"}
        await admin.apply(
            NODE_OVERLAY_IPS, name, body | {"status": status}, field_manager="operator", subresource="status"
        )
    # Newcomers first: their names come before those of the nodes that were there.
    for name in ("new-1", "new-2", *old):
        await admin.create(NODES, node_manifest(name))
    async with controller(api_server):

        async def settled() -> bool:
            return len(await records(admin)) == 8 == len(await addresses(admin))

        await eventually(settled, "every node has its record, and shows its address")
        shown = await addresses(admin)
    assert {name: shown[name] for name in old} == old, "nobody is renumbered"
    assert {ip_address(shown[name]) for name in ("new-1", "new-2")} == {
        ip_address("192.168.100.8"),
        ip_address("192.168.100.9"),
    }


async def test_a_record_that_was_taken_over_since_is_neither_released_nor_put_into_quarantine(
    admin: KubeApi, caches: Caches
) -> None:
    await add_pool(admin)
    caches.pools.replace(Listing((await admin.list(OVERLAY_POOLS)).items, "2"))
    pool = caches.pools.get("p1")
    assert pool is not None
    ipam = ClusterIpam(admin, "c", caches.known_addresses, caches.pools.get)
    owner = Owner("c", "n1", "uid")
    seen = await ipam.reserve(owner, pool)
    again = await ipam.reserve(owner, pool, seen.address.ip)
    assert again.record == seen.record, "it is the same record"
    with pytest.raises(Conflict):
        await ipam.release(seen)
    with pytest.raises(Conflict):
        await ipam.quarantine(seen, datetime(2026, 1, 1, tzinfo=UTC))
    assert await records(admin) == {str(seen.address.ip): "n1"}
    await ipam.release(again)
    assert await records(admin) == {}
    await ipam.release(again)
