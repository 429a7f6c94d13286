"""A controller with a stale view, or that finds what another one left, takes no address or route from any node."""

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
    """Synced while the cluster was still empty."""
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


async def test_a_stalled_watch_of_nodes_does_not_remove_a_running_node(
    admin: KubeApi, caches: Caches, reconciler: Callable[[], NodeReconciler]
) -> None:
    await join(admin, "n1")
    made = await create(admin, NODE_OVERLAY_IPS, "n1", {}, finalizers=["finalizer.iks.ibm.com"])
    status = {"ipAddr": "192.168.100.4/24", "nodeUID": "old", "nodeGoneSince": "2026-01-01T00:00:00Z"}
    body = NODE_OVERLAY_IPS.manifest("n1", status=status)
    shown = await admin.apply(
        NODE_OVERLAY_IPS, "n1", body, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status"
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
    assert "192.168.100.4" in await records(admin), "the Node exists, so its address is not fenced"


RECORD = {"address": "192.168.100.4", "pool": "p1", "node": "n1", "nodeUID": "old"}


async def test_an_object_that_is_not_cached_yet_keeps_its_routes(
    admin: KubeApi, caches: Caches, reconciler: Callable[[], NodeReconciler]
) -> None:
    await join(admin, "n1")
    caches.nodes.replace(Listing((await admin.get(NODES, "n1"),), "2"))
    named = [{"name": "rs-0123456789ab", "since": "2026-01-01T00:00:00Z"}]
    await create(admin, NODE_OVERLAY_IPS, "n1", {"routeSets": named})
    assert await reconciler().reconcile("n1") is not None, "it is requeued"
    assert (await admin.get(NODE_OVERLAY_IPS, "n1"))["spec"]["routeSets"] == named


async def test_new_nodes_do_not_get_addresses_that_the_earlier_operator_assigned(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    old = {f"old-{last}": f"192.168.100.{last}" for last in range(2, 8)}
    for name, address in old.items():
        await create(admin, NODE_OVERLAY_IPS, name, {}, finalizers=["finalizer.iks.ibm.com"])
        status = {"ipAddr": f"{address}/24", "gateway": "192.168.100.1", "interface": "eth0", "interfaceLabel": "tmp0"}
        await admin.apply(
            NODE_OVERLAY_IPS,
            name,
            NODE_OVERLAY_IPS.manifest(name, status=status),
            field_manager="operator",
            subresource="status",
        )
    # The new nodes first: their names sort before those of the old ones.
    for name in ("new-1", "new-2", *old):
        await admin.create(NODES, node_manifest(name))
    async with controller(api_server):

        async def settled() -> bool:
            return len(await records(admin)) == 8 == len(await addresses(admin))

        await eventually(settled, "every node has a record, and its object shows the address")
        shown = await addresses(admin)
    assert {name: shown[name] for name in old} == old, "no node is renumbered"
    assert {ip_address(shown[name]) for name in ("new-1", "new-2")} == {
        ip_address("192.168.100.8"),
        ip_address("192.168.100.9"),
    }


async def test_a_record_that_was_taken_over_since_it_was_read_is_neither_released_nor_quarantined(
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
