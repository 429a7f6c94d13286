"""What a node gets, and what people read when it gets nothing."""

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

from overlay_net.domain.allocation.conflict import QUARANTINE_TIME
from overlay_net.domain.allocation.node_plan import plan_node
from overlay_net.model.ipam import QUARANTINE
from overlay_net.model.names import FINALIZER
from overlay_net.model.node_actions import RemoveTaint
from tests.fakes.cluster import NAME, POLICY, Cluster
from tests.unit.factories import node, pool


def settle(cluster: Cluster) -> Cluster:
    for _ in range(4):
        cluster.reconcile()
        cluster.agent()
    return cluster


def reserved(cluster: Cluster) -> tuple[str, str]:
    """Status and reason of the condition Reserved."""
    assert cluster.overlay is not None
    (condition,) = [each for each in cluster.overlay["status"]["conditions"] if each["type"] == "Reserved"]
    return condition["status"], condition["reason"]


def address(cluster: Cluster) -> str | None:
    assert cluster.overlay is not None
    found = cluster.overlay["status"].get("ipAddr")
    return None if found is None else str(found)


def joined(*pools: object, **options: object) -> Cluster:
    cluster = Cluster(list(pools))  # type: ignore[arg-type]
    cluster.join(node(NAME, **options))  # type: ignore[arg-type]
    return cluster


def test_a_new_node_gets_labels_finalizer_address_and_gateway() -> None:
    cluster = settle(joined(pool(exclude=["192.168.100.2-192.168.100.3"])))
    assert cluster.overlay is not None
    assert cluster.overlay["metadata"]["labels"] == {"node": NAME, "region": "us-south", "zone": "dal10"}
    assert cluster.overlay["metadata"]["finalizers"] == [FINALIZER]
    assert address(cluster) == "192.168.100.4/24"
    assert cluster.overlay["status"]["gateway"] == "192.168.100.1"
    assert cluster.overlay["status"]["pool"] == "p1"
    assert reserved(cluster) == ("True", "Reserved")


def test_pools_are_tried_by_zone_then_in_their_order_and_a_full_one_is_passed_over() -> None:
    full = pool("a-full", "10.1.0.0/30", "10.1.0.1", zones=["dal10"])
    cluster = joined(
        pool("other-zone", "10.2.0.0/24", "10.2.0.1", zones=["wdc04"]),
        full,
        pool("b-room", "10.3.0.0/24", "10.3.0.1", nodeSelector={"matchLabels": {"kind": "worker"}}),
        kind="worker",
    )
    cluster.take("10.1.0.2")
    assert address(settle(cluster)) == "10.3.0.2/24"


def test_no_pool_and_full_pools_are_told_apart_and_end_by_themselves() -> None:
    cluster = settle(joined(pool(zones=["wdc04"])))
    assert reserved(cluster) == ("False", "NoPool")
    cluster.pools = [pool(cidr="10.1.0.0/30", gateway="10.1.0.1")]
    cluster.take("10.1.0.2")
    assert reserved(settle(cluster)) == ("False", "Exhausted")
    assert cluster.announced == ["NoPool", "Exhausted"], "each reason is announced once, however often it is met"
    cluster.records.clear()
    assert reserved(settle(cluster)) == ("True", "Reserved")


def test_a_pool_with_a_broken_spec_serves_nobody() -> None:
    assert reserved(settle(joined(pool(gateway="10.9.9.9")))) == ("False", "NoPool")


def test_a_pinned_address_is_taken_and_the_earlier_one_goes_back_only_when_the_agent_has_changed() -> None:
    cluster = settle(joined(pool()))
    cluster.pin("192.168.100.77")
    cluster.reconcile()
    assert address(cluster) == "192.168.100.77/24"
    assert ip_address("192.168.100.2") in cluster.records, "the node may still use it"
    settle(cluster)
    assert [str(each) for each in cluster.records] == ["192.168.100.77"]


def test_a_pin_that_cannot_be_had_leaves_the_node_its_address() -> None:
    for pin, reason in (
        ("10.99.0.1", "OutsidePools"),
        ("192.168.100.1", "AddressTaken"),
        ("192.168.100.255", "AddressTaken"),
        ("192.168.100.9", "AddressTaken"),
    ):
        cluster = settle(joined(pool()))
        cluster.take("192.168.100.9")
        cluster.pin(pin)
        settle(cluster)
        assert (address(cluster), reserved(cluster)) == ("192.168.100.2/24", ("False", reason)), pin


def test_the_earlier_operators_address_is_kept() -> None:
    cluster = joined(pool())
    cluster.reconcile(steps=1)
    assert cluster.overlay is not None
    cluster.overlay["status"] = {"ipAddr": "192.168.100.44/24", "gateway": "192.168.100.1", "interfaceLabel": "tmp0"}
    assert address(settle(cluster)) == "192.168.100.44/24"
    assert ip_address("192.168.100.44") in cluster.records


def test_an_address_that_somebody_else_has_is_given_up_and_that_is_announced() -> None:
    cluster = settle(joined(pool()))
    cluster.records.clear()
    cluster.take("192.168.100.2")
    assert address(settle(cluster)) == "192.168.100.3/24"
    assert "AddressLost" in cluster.announced


def test_a_persons_record_at_a_nodes_address_is_told_and_the_node_keeps_its_address() -> None:
    cluster = settle(joined(pool()))
    cluster.records.clear()
    cluster.take("192.168.100.2", "")
    settle(cluster)
    assert cluster.reconcile(doubt=True)
    assert (address(cluster), reserved(cluster)) == ("192.168.100.2/24", ("False", "RecordTaken"))
    cluster.records.clear()
    assert reserved(settle(cluster)) == ("True", "Reserved"), "it is taken again as soon as it is given back"


def test_an_unmarked_record_of_the_earlier_operator_is_taken_over_and_no_other_one() -> None:
    cluster = joined(pool())
    cluster.reconcile(steps=1)
    assert cluster.overlay is not None
    cluster.overlay["status"] = {"ipAddr": "192.168.100.44/24", "gateway": "192.168.100.1"}
    cluster.take("192.168.100.44", "")
    assert address(settle(cluster)) == "192.168.100.44/24"
    assert cluster.found()
    cluster.take("192.168.100.45", "")
    cluster.pin("192.168.100.45")
    assert reserved(settle(cluster)) == ("False", "AddressTaken")


def test_what_is_in_use_is_kept_though_it_would_not_be_handed_out_any_more() -> None:
    cluster = settle(joined(pool()))
    cluster.pools = [pool(exclude=["192.168.100.2"])]
    cluster.join(node(NAME, uid="uid-2"))
    assert address(settle(cluster)) == "192.168.100.2/24"
    assert cluster.found()[0].owner.uid == "uid-2"


def test_a_record_where_none_may_be_is_given_back_and_not_used() -> None:
    """An IPAM handed out the gateway's address, and the controller died before it gave it back."""
    cluster = joined(pool())
    cluster.reconcile(steps=1)
    cluster.take("192.168.100.1", NAME)
    assert address(settle(cluster)) == "192.168.100.2/24"
    assert [str(each) for each in cluster.records] == ["192.168.100.2"]


def test_a_pool_that_was_made_anew_with_another_subnet_does_not_count_for_addresses_of_the_old_one() -> None:
    cluster = settle(joined(pool()))
    before = cluster.overlay
    cluster.pools = [pool(cidr="10.5.0.0/24", gateway="10.5.0.1")]
    assert settle(cluster).overlay == before


def test_an_ipam_that_is_away_is_a_condition_for_who_has_no_address_and_nothing_for_who_has_one() -> None:
    waiting = joined(pool())
    waiting.away = True
    assert reserved(settle(waiting)) == ("False", "IpamUnavailable")
    waiting.away = False
    assert reserved(settle(waiting)) == ("True", "Reserved")
    waiting.away = True
    waiting.feed = False
    before = waiting.overlay
    assert settle(waiting).overlay == before
    waiting.leave()
    waiting.delete_overlay()
    waiting.reconcile()
    waiting.now += POLICY.fence_after * 2
    waiting.reconcile()
    assert waiting.overlay is not None, "the finalizer stays until the address is released"
    assert reserved(waiting) == ("True", "IpamUnavailable")


def test_a_pool_that_vanishes_renumbers_nobody() -> None:
    cluster = settle(joined(pool()))
    before = cluster.overlay
    cluster.pools = []
    assert settle(cluster).overlay == before


def test_a_changed_pool_gateway_reaches_the_node() -> None:
    cluster = settle(joined(pool()))
    cluster.pools = [pool(gateway="192.168.100.254")]
    settle(cluster)
    assert cluster.overlay is not None
    assert cluster.overlay["status"]["gateway"] == "192.168.100.254"


def conflict(cluster: Cluster) -> tuple[str | None, int]:
    """The address, and how often it was given up for a conflict."""
    assert cluster.overlay is not None
    return address(cluster), cluster.overlay["status"].get("conflicts", 0)


def test_an_address_that_somebody_unknown_uses_is_kept_from_everybody_and_another_one_taken() -> None:
    cluster = joined(pool())
    cluster.squatted = {ip_address("192.168.100.2")}
    settle(cluster)
    assert conflict(cluster) == ("192.168.100.3/24", 1)
    assert str(cluster.kernel) == "192.168.100.3/24"
    assert cluster.records[ip_address("192.168.100.2")].owner.node == QUARANTINE
    cluster.now += QUARANTINE_TIME
    cluster.audit()
    assert ip_address("192.168.100.2") not in cluster.records


def test_a_host_that_answers_for_every_address_does_not_use_up_the_pool() -> None:
    cluster = joined(pool())
    cluster.squatted = {ip_address(f"192.168.100.{last}") for last in range(2, 255)}
    settle(cluster)
    assert conflict(cluster) == ("192.168.100.3/24", 1), "the next one waits for its time"
    for minute in range(60):
        cluster.now += timedelta(minutes=1)
        settle(cluster)
        assert conflict(cluster)[1] <= 12, f"after {minute} minutes"
    assert cluster.kernel is None


def test_a_pinned_address_is_not_given_up_for_a_conflict() -> None:
    cluster = joined(pool())
    cluster.reconcile(steps=1)
    cluster.pin("192.168.100.7")
    cluster.squatted = {ip_address("192.168.100.7")}
    settle(cluster)
    assert conflict(cluster) == ("192.168.100.7/24", 0)
    cluster.squatted.clear()
    assert str(settle(cluster).kernel) == "192.168.100.7/24"


def test_a_node_keeps_its_startup_taint_until_its_agent_has_all_in_place() -> None:
    taint = "overlay-net.example.com/not-ready"
    rules = replace(POLICY, startup_taint=taint)
    there = node(NAME, taints=(taint, "other"))
    for generation, status, actions in ((2, "True", (RemoveTaint(taint),)), (1, "True", ()), (2, "False", ())):
        state = {"observedGeneration": generation, "conditions": [{"type": "Ready", "status": status}]}
        cluster = settle(joined(pool()))
        assert cluster.overlay is not None
        cluster.node = there
        cluster.overlay["status"] |= {"observedGeneration": state["observedGeneration"]}
        cluster.overlay["status"]["conditions"] += state["conditions"]
        cluster.overlay["metadata"]["generation"] = 2
        assert plan_node(cluster.view(), rules).actions == actions


def test_when_the_product_leaves_every_node_gives_back_what_it_has_and_none_is_served_anew() -> None:
    cluster = settle(joined(pool()))
    cluster.policy = replace(POLICY, draining=True)
    cluster.reconcile()
    assert cluster.records, "the agent has it still"
    cluster.agent()
    cluster.reconcile()
    assert (cluster.overlay, cluster.records) == (None, {})
    assert cluster.reconcile()
    assert cluster.overlay is None


def test_a_release_that_was_decided_before_an_address_was_wished_again_takes_nothing() -> None:
    cluster = settle(joined(pool()))
    cluster.pin("192.168.100.77")
    cluster.reconcile()
    cluster.agent()
    assert not cluster.reconcile(steps=0), "it stands still before it gives the first address back"
    assert [str(each.reservation.address.ip) for each in cluster.decided] == ["192.168.100.2"]
    cluster.pin("192.168.100.2")
    cluster.reconcile()
    cluster.agent()
    assert str(cluster.kernel) == "192.168.100.2/24"
    cluster.go_on()
    assert ip_address("192.168.100.2") in cluster.records, "another controller has made it the node's again"
    assert address(settle(cluster)) == "192.168.100.2/24"
