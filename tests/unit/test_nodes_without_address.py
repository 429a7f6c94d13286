"""Nodes that have routes and no overlay address: what they get, what they give back and when, what people read."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network

import pytest

from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    Moment,
    checkpoint_digest,
    decode_checkpoint,
    encode_checkpoint,
    encode_confirmation,
)
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state, link_config_for
from overlay_net.domain.kernel.parent_interface import interface_selector
from overlay_net.domain.routes.node_status import NodeTable
from overlay_net.domain.routes.status import route_status
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.overlay import NodeOverlay
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import node, overlay, pool, static_route

MARKS = OwnershipMark(117, "overlay-net")


def routes_only(*pools: object) -> Cluster:
    cluster = Cluster(list(pools), routes=[static_route()])  # type: ignore[arg-type]
    cluster.switch_addresses(on=False)
    cluster.join(node(NAME))
    return cluster


def settle(cluster: Cluster) -> Cluster:
    for _ in range(4):
        cluster.reconcile()
        cluster.agent()
    return cluster


def reserved(cluster: Cluster) -> tuple[str, str, str]:
    assert cluster.overlay is not None
    (found,) = [each for each in cluster.overlay["status"]["conditions"] if each["type"] == "Reserved"]
    return found["status"], found["reason"], found["message"]


@pytest.mark.parametrize("pools", [[], [pool()]], ids=["no pool", "a pool"])
def test_a_node_gets_its_routes_and_reserves_nothing(pools: list[object]) -> None:
    cluster = settle(routes_only(*pools))
    assert cluster.overlay is not None
    assert cluster.overlay["spec"]["routesOnly"] is True
    assert [route["subnet"] for route in cluster.overlay["spec"]["routes"]] == ["192.168.0.0/24"]
    assert "ipAddr" not in cluster.overlay["status"]
    assert reserved(cluster) == ("False", "RoutesOnly", "overlay addresses are disabled; this node has routes only")
    assert not cluster.records
    assert not cluster.announced, "a node that joins as wished is no news"


def test_a_node_needs_no_ipam_that_answers() -> None:
    cluster = routes_only()
    cluster.away = True
    settle(cluster)
    assert reserved(cluster)[1] == "RoutesOnly"


def test_a_node_keeps_its_startup_taint_until_it_was_told_its_routes() -> None:
    cluster = routes_only()
    cluster.policy = replace(cluster.policy, startup_taint="not-ready")
    cluster.join(node(NAME, taints=("not-ready",)))
    cluster.reconcile(1)
    assert cluster.overlay is not None
    done = {"type": "Ready", "status": "True", "reason": "Ready", "message": "0 routes are in place"}
    cluster.overlay["status"] = {"conditions": [done], "observedGeneration": cluster.overlay["metadata"]["generation"]}
    cluster.reconcile()
    assert cluster.node is not None
    assert cluster.node.taints == ("not-ready",)
    cluster.overlay["status"]["observedGeneration"] = cluster.overlay["metadata"]["generation"]
    cluster.reconcile()
    assert "not-ready" not in set(cluster.node.taints)


def test_switched_off_an_address_is_released_only_after_the_agent_let_go() -> None:
    cluster = routes_only(pool())
    cluster.switch_addresses(on=True)
    settle(cluster)
    (held,) = cluster.records
    cluster.switch_addresses(on=False)
    for _ in range(5):
        cluster.reconcile()
    assert list(cluster.records) == [held], "the agent is away"
    assert cluster.overlay is not None
    assert cluster.overlay["status"]["ipAddr"] == f"{held}/24"
    status, reason, message = reserved(cluster)
    assert (status, reason) == ("True", "WaitingForAgent")
    assert f"waiting for the agent on node {NAME} to remove {held}" in message
    settle(cluster)
    assert cluster.kernel is None
    assert not cluster.records
    assert "ipAddr" not in cluster.overlay["status"]
    assert reserved(cluster)[:2] == ("False", "RoutesOnly")
    assert cluster.announced[-2:] == ["WaitingForAgent", "RoutesOnly"]


def test_the_report_of_an_agent_that_was_not_told_yet_releases_nothing() -> None:
    cluster = routes_only(pool())
    settle(cluster)
    cluster.switch_addresses(on=True)
    cluster.reconcile()
    (held,) = cluster.records
    # The agent has set the address and could not say so yet: its last report is that of a node without one.
    assert cluster.overlay is not None
    assert "configuredIpAddr" not in cluster.overlay["status"]
    cluster.switch_addresses(on=False)
    cluster.reconcile()
    assert list(cluster.records) == [held]


def test_switched_off_and_on_before_the_agent_heard_of_it_keeps_the_address() -> None:
    cluster = routes_only(pool())
    cluster.switch_addresses(on=True)
    settle(cluster)
    (held,) = cluster.records
    cluster.switch_addresses(on=False)
    cluster.reconcile()
    cluster.switch_addresses(on=True)
    settle(cluster)
    assert list(cluster.records) == [held]
    assert cluster.kernel is not None
    assert cluster.kernel.ip == held
    assert reserved(cluster)[:2] == ("True", "Reserved")


def test_an_ipam_that_is_away_is_named_while_an_address_waits_for_its_release() -> None:
    cluster = routes_only(pool())
    cluster.switch_addresses(on=True)
    settle(cluster)
    cluster.switch_addresses(on=False)
    cluster.away = True
    settle(cluster)
    assert len(cluster.records) == 1
    status, reason, message = reserved(cluster)
    assert (status, reason) == ("True", "IpamUnavailable")
    assert "the address is not released yet: it is away" in message
    cluster.away = False
    settle(cluster)
    assert not cluster.records
    assert reserved(cluster)[1] == "RoutesOnly"


# --- The agent -------------------------------------------------------------------------------------------------------


def told(**status: object) -> NodeOverlay:
    spec = {"routesOnly": True, "routes": [{"subnet": "192.168.0.0/24", "staticRoute": "r1"}]}
    return overlay(spec=spec, status=status, generation=2)


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan", "address", "none"])
def test_the_object_rules_whatever_the_link_mode_of_the_agent(mode: str) -> None:
    rules = LinkConfig(interface_selector("eth0", None), mode=mode, fallback=IPv4Network("10.0.0.0/8"))  # type: ignore[arg-type]
    mine = told(ipAddr="192.168.100.4/24", configuredIpAddr="192.168.100.4/24")
    link = desired_link(link_config_for(mine, rules), Observed(), MARKS)
    desired = desired_state(mine, link, rules.fallback)
    assert (desired.address, desired.link, link.name) == (None, None, "")
    assert (len(desired.routes), desired.fallback) == (1, rules.fallback)


def test_a_restarted_agent_remembers_that_there_are_routes_only() -> None:
    state = encode_checkpoint(told(ipAddr="192.168.100.4/24"))
    moment = Moment(datetime(2026, 1, 1, tzinfo=UTC), "boot", 1.0)
    kept = decode_checkpoint(state, encode_confirmation(checkpoint_digest(state), moment), NAME)
    assert isinstance(kept, Checkpoint)
    assert kept.overlay.routes_only


# --- StaticRoute.status ----------------------------------------------------------------------------------------------


def test_the_status_of_a_route_names_the_gateway_and_interface_that_the_agent_found() -> None:
    report = {"interface": "eth0", "fallbackGateway": "10.176.162.129", "observedGeneration": 2, "routesDesired": 1}
    mine = told(**report)
    assert mine.report.fallback == IPv4Address("10.176.162.129")
    table = NodeTable.index(node(NAME), mine)
    status = route_status(static_route(), [table], datetime(2026, 1, 1, tzinfo=UTC))
    assert status["nodeStatus"] == [{"hostname": NAME, "gateway": "10.176.162.129", "device": "eth0", "state": "Ready"}]
