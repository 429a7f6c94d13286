"""What address a node gets, and what people read when it gets none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.domain.allocation.conflict import QUARANTINE_TIME
from overlay_net.domain.allocation.node_plan import plan_node
from overlay_net.model.api import JsonObject
from overlay_net.model.ipam import QUARANTINE
from overlay_net.model.names import FINALIZER, NODE_OVERLAY_IPS, NODES
from overlay_net.model.node_actions import (
    ApplyAssignment,
    NodeRoutes,
    NodeView,
    Reserve,
)
from tests.fakes.cluster import NAME, POLICY, ROUTER_MAC, Cluster
from tests.unit.factories import node, overlay, pool, raw_node, raw_pool

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, SECOND = ip_address("192.168.100.2"), ip_address("192.168.100.3")


async def settle(cluster: Cluster) -> Cluster:
    await cluster.settle()
    return cluster


async def joined(*pools: JsonObject, **options: Any) -> Cluster:
    cluster = await Cluster.start(*pools)
    await cluster.join(raw_node(NAME, **options))
    return cluster


async def settled(*pools: JsonObject, **options: Any) -> Cluster:
    return await settle(await joined(*pools, **options))


async def reserved(cluster: Cluster) -> tuple[str, str]:
    """Status and reason of the condition Reserved."""
    status = (await cluster.present_overlay())["status"]
    (condition,) = [each for each in status["conditions"] if each["type"] == "Reserved"]
    return condition["status"], condition["reason"]


async def address(cluster: Cluster) -> str | None:
    found = (await cluster.present_overlay())["status"].get("ipAddr")
    return None if found is None else str(found)


async def without_up_to_date(cluster: Cluster) -> JsonObject:
    """Spec and status of the object, with the reason of the condition UpToDate in place of that condition."""
    found = await cluster.present_overlay()
    conditions = {each["type"]: each for each in found["status"].pop("conditions")}
    reason = conditions.pop("UpToDate", {"reason": None})["reason"]
    return {"spec": found["spec"], "status": found["status"], "conditions": conditions, "UpToDate": reason}


async def recorded(cluster: Cluster) -> list[str]:
    return [str(each) for each in await cluster.records()]


async def test_a_new_node_gets_labels_finalizer_address_and_gateway() -> None:
    cluster = await settled(raw_pool(exclude=["192.168.100.2-192.168.100.3"]))
    found = await cluster.present_overlay()
    assert found["metadata"]["labels"] == {"node": NAME, "region": "us-south", "zone": "dal10"}
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert await address(cluster) == "192.168.100.4/24"
    assert found["status"]["gateway"] == "192.168.100.1"
    assert found["status"]["pool"] == "p1"
    assert await reserved(cluster) == ("True", "Reserved")


async def test_pools_of_the_zone_are_tried_in_order_and_a_full_one_is_skipped() -> None:
    cluster = await joined(
        raw_pool("other-zone", "10.2.0.0/24", "10.2.0.1", zones=["wdc04"]),
        raw_pool("a-full", "10.1.0.0/30", "10.1.0.1", zones=["dal10"]),
        raw_pool("b-room", "10.3.0.0/24", "10.3.0.1", nodeSelector={"matchLabels": {"kind": "worker"}}),
        kind="worker",
    )
    await cluster.take("10.1.0.2")
    assert await address(await settle(cluster)) == "10.3.0.2/24"


async def test_no_pool_and_full_pools_have_reasons_of_their_own_and_recover() -> None:
    cluster = await settled(raw_pool(zones=["wdc04"]))
    assert await reserved(cluster) == ("False", "NoPool")
    await cluster.set_pools(raw_pool(cidr="10.1.0.0/30", gateway="10.1.0.1"))
    await cluster.take("10.1.0.2")
    assert await reserved(await settle(cluster)) == ("False", "Exhausted")
    assert await cluster.announced() == ["NoPool", "Exhausted"], "each reason has one event, however often it recurs"
    await cluster.lose_records()
    assert await reserved(await settle(cluster)) == ("True", "Reserved")


async def test_a_pool_with_a_broken_spec_serves_no_node() -> None:
    assert await reserved(await settled(raw_pool(gateway="10.9.9.9"))) == ("False", "NoPool")


async def test_the_previous_address_is_released_only_after_the_agent_uses_the_pinned_one() -> None:
    cluster = await settled(raw_pool())
    await cluster.pin("192.168.100.77")
    await cluster.reconcile()
    assert await address(cluster) == "192.168.100.77/24"
    assert FIRST in await cluster.records(), "the node may still use it"
    await settle(cluster)
    assert await recorded(cluster) == ["192.168.100.77"]


@pytest.mark.parametrize(
    ("pin", "reason"),
    [
        ("10.99.0.1", "OutsidePools"),
        ("192.168.100.1", "AddressTaken"),
        ("192.168.100.255", "AddressTaken"),
        ("192.168.100.9", "AddressTaken"),
    ],
)
async def test_unavailable_pinned_address_is_reported_and_keeps_the_current_one(pin: str, reason: str) -> None:
    cluster = await settled(raw_pool())
    await cluster.take("192.168.100.9")
    await cluster.pin(pin)
    await settle(cluster)
    assert (await address(cluster), await reserved(cluster)) == ("192.168.100.2/24", ("False", reason))


async def test_the_earlier_operators_address_is_kept() -> None:
    cluster = await joined(raw_pool())
    await cluster.reconcile(writes=1)
    await cluster.set_status({"ipAddr": "192.168.100.44/24", "gateway": "192.168.100.1", "interfaceLabel": "tmp0"})
    assert await address(await settle(cluster)) == "192.168.100.44/24"
    assert ip_address("192.168.100.44") in await cluster.records()


async def test_a_node_whose_address_another_node_has_gets_a_new_one_and_an_event() -> None:
    cluster = await settled(raw_pool())
    await cluster.lose_records()
    await cluster.take("192.168.100.2")
    assert await address(await settle(cluster)) == "192.168.100.3/24"
    assert "AddressLost" in await cluster.announced()


def refused_view(**status: Any) -> NodeView:
    """The node uses FIRST, and the IPAM has just refused it: a person's record holds it."""
    object_ = overlay(NAME, status={"ipAddr": f"{FIRST}/24", "gateway": "192.168.100.1", "pool": "p1", **status})
    taken = frozenset({FIRST})
    return NodeView(
        NAME,
        node(NAME),
        object_,
        NodeRoutes,
        (pool(),),
        NOW,
        reservations=(),
        taken=taken,
        holders={FIRST: "printer-7"},
    )


def test_a_persons_record_at_a_nodes_address_is_reported_and_the_node_keeps_its_address() -> None:
    plan = plan_node(refused_view(nodeUID="uid-1"), POLICY)
    (applied,) = [action for action in plan.actions if isinstance(action, ApplyAssignment)]
    assert applied.assignment.address == overlay(status={"ipAddr": f"{FIRST}/24"}).assignment.address
    assert applied.assignment.reserved is not None
    assert (applied.assignment.reserved.status, applied.assignment.reserved.reason) == (False, "RecordTaken")
    assert "'printer-7'" in applied.assignment.reserved.message
    assert plan.requeue_after is not None, "the record may be removed at any time"


def test_only_the_earlier_operators_record_without_an_owner_tag_is_taken_over() -> None:
    asked = replace(refused_view(), taken=frozenset(), holders={})
    assert asked.overlay is not None
    assert plan_node(asked, POLICY).actions == (Reserve((pool(),), FIRST, adopt=True),), "assigned before we came"
    ours = refused_view(nodeUID="uid-1").overlay
    assert plan_node(replace(asked, overlay=ours), POLICY).actions == (Reserve((pool(),), FIRST),)
    pinned = overlay(NAME, spec={"ipAddr": "192.168.100.45"}, status={"ipAddr": f"{FIRST}/24"})
    requested = ip_address("192.168.100.45")
    assert plan_node(replace(asked, overlay=pinned), POLICY).actions == (Reserve((pool(),), requested),)


async def test_an_address_in_use_is_kept_although_the_pool_now_excludes_it() -> None:
    cluster = await settled(raw_pool())
    await cluster.set_pools(raw_pool(exclude=["192.168.100.2"]))
    await cluster.join(raw_node(NAME))
    assert await address(await settle(cluster)) == "192.168.100.2/24"
    (record,) = await cluster.own_records()
    assert record.node_uid == (await cluster.kube.get(NODES, NAME))["metadata"]["uid"]


async def test_a_record_of_an_address_that_is_never_handed_out_is_released_and_not_used() -> None:
    """An IPAM handed out the gateway's address, and the controller died before it released it."""
    cluster = await joined(raw_pool())
    await cluster.reconcile(writes=1)
    await cluster.take("192.168.100.1", NAME)
    assert await address(await settle(cluster)) == "192.168.100.2/24"
    assert await recorded(cluster) == ["192.168.100.2"]


async def test_a_pool_recreated_with_another_subnet_does_not_touch_addresses_of_the_old_one() -> None:
    cluster = await settled(raw_pool())
    before = await without_up_to_date(cluster)
    await cluster.set_pools(raw_pool(cidr="10.5.0.0/24", gateway="10.5.0.1"))
    assert await without_up_to_date(await settle(cluster)) == before | {"UpToDate": "PoolMissing"}


async def test_an_unreachable_ipam_is_reported_on_a_node_without_address() -> None:
    cluster = await joined(raw_pool())
    cluster.ipam_down = True
    assert await reserved(await settle(cluster)) == ("False", "IpamUnavailable")
    cluster.ipam_down = False
    assert await reserved(await settle(cluster)) == ("True", "Reserved")


async def test_an_unreachable_ipam_changes_nothing_on_a_node_with_an_address() -> None:
    cluster = await settled(raw_pool())
    before = await cluster.overlay()
    cluster.ipam_down = True
    assert await (await settle(cluster)).overlay() == before


async def test_the_finalizer_stays_while_an_unreachable_ipam_cannot_release_the_address() -> None:
    cluster = await settled(raw_pool())
    cluster.ipam_down = True
    await cluster.leave()
    await cluster.delete_overlay()
    await cluster.reconcile()
    cluster.now += POLICY.fence_after * 2
    await cluster.reconcile()
    assert (await cluster.present_overlay())["metadata"]["finalizers"] == [FINALIZER]
    assert await reserved(cluster) == ("True", "IpamUnavailable")


@pytest.mark.parametrize("overlay_addresses", [True, False])
async def test_a_node_that_returns_during_an_ipam_outage_counts_as_gone_only_from_its_next_deletion(
    overlay_addresses: bool,
) -> None:
    cluster = await settled(raw_pool())
    await cluster.leave()
    await cluster.reconcile()
    assert "nodeGoneSince" in (await cluster.present_overlay())["status"]
    cluster.ipam_down = True
    await cluster.set_policy(overlay_addresses=overlay_addresses)
    cluster.now += POLICY.release_after / 2
    await cluster.join(raw_node(NAME))
    await settle(cluster)
    assert "nodeGoneSince" not in (await cluster.present_overlay())["status"]
    await cluster.leave()
    cluster.now += POLICY.release_after * 0.75
    await cluster.reconcile()
    assert "deletionTimestamp" not in (await cluster.present_overlay())["metadata"], "it has just left again"


async def test_a_deleted_pool_renumbers_no_node() -> None:
    cluster = await settled(raw_pool())
    before = await without_up_to_date(cluster)
    await cluster.set_pools()
    assert await without_up_to_date(await settle(cluster)) == before | {"UpToDate": "PoolMissing"}


async def test_a_changed_pool_gateway_reaches_the_node() -> None:
    cluster = await settled(raw_pool())
    await cluster.set_pools(raw_pool(gateway="192.168.100.254"))
    await settle(cluster)
    assert (await cluster.present_overlay())["status"]["gateway"] == "192.168.100.254"


async def conflicts(cluster: Cluster) -> int:
    """How often the node lost its address to a conflict."""
    return int((await cluster.present_overlay())["status"].get("conflicts", 0))


async def test_an_address_in_conflict_is_quarantined_and_replaced() -> None:
    cluster = await joined(raw_pool())
    cluster.foreign_hosts = {FIRST}
    await settle(cluster)
    assert (await address(cluster), await conflicts(cluster)) == ("192.168.100.3/24", 1)
    assert str(cluster.kernel) == "192.168.100.3/24"
    await cluster.audit()
    assert (await cluster.records())[FIRST].node == QUARANTINE
    cluster.now += QUARANTINE_TIME
    await cluster.audit()
    assert FIRST not in await cluster.records()


async def test_a_host_that_answers_for_every_address_does_not_use_up_the_pool() -> None:
    cluster = await joined(raw_pool())
    cluster.foreign_hosts = {ip_address(f"192.168.100.{last}") for last in range(2, 255)}
    await settle(cluster)
    assert (await address(cluster), await conflicts(cluster)) == ("192.168.100.3/24", 1), "the next one has to wait"
    for minute in range(60):
        cluster.now += timedelta(minutes=1)
        await settle(cluster)
        assert await conflicts(cluster) <= 12, f"after {minute} minutes"
    assert cluster.kernel is None


async def with_proxy_arp(*pools: JsonObject) -> Cluster:
    """A node joins a link on which one router answers for every address but those of the pools' last host."""
    cluster = await joined(*(pools or (raw_pool(),)))
    cluster.proxy_arp = True
    cluster.foreign_hosts = {ip_address(f"192.168.100.{last}") for last in range(2, 254)}
    for _ in range(60):
        await settle(cluster)
        cluster.now += timedelta(minutes=1)
    return cluster


async def test_a_router_that_answers_for_every_address_is_named_after_three_conflicts_and_the_pool_is_kept() -> None:
    cluster = await with_proxy_arp()
    assert await conflicts(cluster) == 3
    assert await reserved(cluster) == ("False", "ProxyARP")
    conditions = (await cluster.present_overlay())["status"]["conditions"]
    (message,) = [each["message"] for each in conditions if each["type"] == "Reserved"]
    assert f"a router answers for every address (MAC {ROUTER_MAC})" in message
    assert (await cluster.announced()).count("ProxyARP") == 1
    before = await cluster.present_overlay()
    cluster.now += timedelta(days=1)
    await settle(cluster)
    assert await cluster.present_overlay() == before, "nothing is written while the cause is the same"


async def test_a_node_gets_its_address_once_the_router_no_longer_answers_for_it() -> None:
    cluster = await with_proxy_arp()
    last = await address(cluster)
    cluster.foreign_hosts.clear()
    await settle(cluster)
    assert (await address(cluster), await reserved(cluster)) == (last, ("True", "Reserved"))
    assert str(cluster.kernel) == last
    assert (await conflicts(cluster), "consecutiveConflicts" in (await cluster.present_overlay())["status"]) == (
        3,
        False,
    )


async def test_a_node_that_joins_beside_a_known_proxy_arp_router_uses_up_no_address() -> None:
    cluster = await with_proxy_arp()
    other = {"status": (await cluster.present_overlay())["status"]}
    await cluster.kube.create(NODE_OVERLAY_IPS, NODE_OVERLAY_IPS.manifest("n2", spec={}))
    await cluster.kube.merge_patch(NODE_OVERLAY_IPS, "n2", other, subresource="status")
    await cluster.leave()
    await cluster.delete_overlay()
    await settle(cluster)
    assert await cluster.overlay() is None
    await cluster.join(raw_node(NAME))
    await settle(cluster)
    assert (await conflicts(cluster), await reserved(cluster)) == (0, ("False", "ProxyARP"))


async def test_conflicts_with_different_hosts_do_not_stop_a_node() -> None:
    cluster = await joined(raw_pool())
    cluster.foreign_hosts = {ip_address(f"192.168.100.{last}") for last in range(2, 8)}
    for _ in range(60):
        await settle(cluster)
        cluster.now += timedelta(minutes=1)
    assert (await address(cluster), await conflicts(cluster)) == ("192.168.100.8/24", 6)
    assert await reserved(cluster) == ("True", "Reserved")


async def test_a_pinned_address_is_kept_in_a_conflict() -> None:
    cluster = await joined(raw_pool())
    await cluster.reconcile(writes=1)
    await cluster.pin("192.168.100.7")
    cluster.foreign_hosts = {ip_address("192.168.100.7")}
    await settle(cluster)
    assert (await address(cluster), await conflicts(cluster)) == ("192.168.100.7/24", 0)
    cluster.foreign_hosts.clear()
    assert str((await settle(cluster)).kernel) == "192.168.100.7/24"


@pytest.mark.parametrize(("behind", "ready", "left"), [(0, "True", ["other"]), (1, "True", None), (0, "False", None)])
async def test_the_startup_taint_stays_until_the_agent_is_ready_with_the_present_spec(
    behind: int, ready: str, left: list[str] | None
) -> None:
    taint = "overlay-net.example.com/not-ready"
    cluster = await settled(raw_pool(), taints=(taint, "other"))
    await cluster.set_policy(startup_taint=taint)
    found = await cluster.present_overlay()
    condition = {"type": "Ready", "status": ready, "reason": "Tested"}
    await cluster.set_status(
        {
            "observedGeneration": found["metadata"]["generation"] - behind,
            "conditions": [condition, *found["status"]["conditions"]],
        }
    )
    await cluster.reconcile()
    taints = [each["key"] for each in (await cluster.kube.get(NODES, NAME))["spec"]["taints"]]
    assert taints == ([taint, "other"] if left is None else left)


async def test_a_drain_releases_every_address_after_its_agent_and_serves_no_node() -> None:
    cluster = await settled(raw_pool())
    await cluster.set_policy(draining=True)
    await cluster.reconcile()
    assert await cluster.records(), "the agent still has it"
    await cluster.run_agent()
    await cluster.reconcile()
    assert (await cluster.overlay(), await cluster.records()) == (None, {})
    assert await cluster.reconcile()
    assert await cluster.overlay() is None


async def test_a_paused_controllers_release_does_not_remove_a_record_that_became_current_again() -> None:
    cluster = await settled(raw_pool())
    await cluster.pin("192.168.100.77")
    await cluster.reconcile()
    await cluster.run_agent()
    assert not await cluster.reconcile(writes=0, pauses=True), "it is paused before it releases the first address"
    await cluster.pin("192.168.100.2")
    await cluster.reconcile()
    await cluster.run_agent()
    assert str(cluster.kernel) == "192.168.100.2/24"
    await cluster.resume()
    assert FIRST in await cluster.records(), "another controller has made it the node's again"
    assert await address(await settle(cluster)) == "192.168.100.2/24"


@pytest.mark.parametrize("ipam_down", [False, True])
async def test_an_object_that_the_watch_has_not_delivered_yet_is_not_an_error(ipam_down: bool) -> None:
    cluster = await joined(raw_pool())
    await cluster.reconcile(writes=0)
    cluster.watches_lag = True
    await cluster.reconcile()
    await cluster.take("192.168.100.2", NAME)
    await cluster.audit()
    cluster.ipam_down = ipam_down
    await cluster.reconcile()
    cluster.ipam_down = False
    await cluster.catch_up()
    assert await address(await settle(cluster)) == "192.168.100.2/24"


async def test_a_record_that_is_released_while_it_is_taken_over_is_reserved_again() -> None:
    cluster = await settled(raw_pool())
    await cluster.join(raw_node(NAME))
    assert not await cluster.reconcile(writes=1, pauses=True), "it is paused between reading and writing the record"
    await cluster.lose_records()
    await cluster.resume()
    assert await address(await settle(cluster)) == "192.168.100.2/24"
    assert "AddressLost" not in await cluster.announced()
    assert await recorded(cluster) == ["192.168.100.2"]
