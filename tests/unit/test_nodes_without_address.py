"""Nodes that have routes and no overlay address: what they get, what they give back and when, what people read."""

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network

import pytest

from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    CheckpointContent,
    Moment,
    checkpoint_digest,
    decode_checkpoint,
    encode_checkpoint,
    encode_confirmation,
)
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state, link_config_for
from overlay_net.domain.kernel.parent_interface import interface_selector
from overlay_net.model.api import JsonObject
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.names import NODES
from overlay_net.model.overlay import NodeOverlay
from tests.fakes.cluster import NAME, Cluster
from tests.fakes.static_route_status import ReportingNode, find_status
from tests.unit.factories import node, overlay, raw_node, raw_pool, raw_static_route, static_route

MARK = OwnershipMark(117, "overlay-net")


async def routes_only(*pools: JsonObject) -> Cluster:
    cluster = await Cluster.start(*pools, routes=[raw_static_route()])
    await cluster.set_policy(overlay_addresses=False)
    await cluster.join(raw_node(NAME))
    return cluster


async def settle(cluster: Cluster) -> Cluster:
    await cluster.settle()
    return cluster


async def with_address() -> Cluster:
    """A settled node with an address."""
    cluster = await routes_only(raw_pool())
    await cluster.set_policy(overlay_addresses=True)
    return await settle(cluster)


async def reserved(cluster: Cluster) -> tuple[str, str, str]:
    status = (await cluster.present_overlay())["status"]
    (found,) = [each for each in status["conditions"] if each["type"] == "Reserved"]
    return found["status"], found["reason"], found["message"]


@pytest.mark.parametrize("pools", [[], [raw_pool()]], ids=["no pool", "a pool"])
async def test_a_node_gets_its_routes_and_reserves_nothing(pools: list[JsonObject]) -> None:
    cluster = await settle(await routes_only(*pools))
    found = await cluster.present_overlay()
    assert found["spec"]["routesOnly"] is True
    assert [route["subnet"] for route in await cluster.routes()] == ["192.168.0.0/24"]
    assert "ipAddr" not in found["status"]
    message = "overlay addresses are disabled; this node has routes only"
    assert await reserved(cluster) == ("False", "RoutesOnly", message)
    assert not await cluster.records()
    assert not await cluster.announced(), "a node that joins as configured is not worth an event"


async def test_a_node_needs_no_reachable_ipam() -> None:
    cluster = await routes_only()
    cluster.ipam_down = True
    await settle(cluster)
    assert (await reserved(cluster))[1] == "RoutesOnly"


async def test_a_node_keeps_its_startup_taint_until_its_agent_reports_the_routes() -> None:
    cluster = await routes_only()
    await cluster.set_policy(startup_taint="not-ready")
    await cluster.join(raw_node(NAME, taints=("not-ready",)))

    async def taints() -> list[str]:
        return [each["key"] for each in (await cluster.kube.get(NODES, NAME))["spec"]["taints"]]

    await cluster.reconcile()
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "0 routes are in place"}
    found = await cluster.present_overlay()
    report = {"conditions": [ready], "observedGeneration": found["metadata"]["generation"], "observedSlices": {}}
    await cluster.set_status(report)
    await cluster.reconcile()
    assert await taints() == ["not-ready"]
    await cluster.run_agent()
    await cluster.set_status({"conditions": [ready]})
    await cluster.reconcile()
    assert await taints() == []


async def test_an_address_is_released_only_after_the_agent_removed_it() -> None:
    cluster = await with_address()
    (held,) = await cluster.records()
    await cluster.set_policy(overlay_addresses=False)
    for _ in range(5):
        await cluster.reconcile()
    assert list(await cluster.records()) == [held], "the agent is down"
    assert (await cluster.present_overlay())["status"]["ipAddr"] == f"{held}/24"
    status, reason, message = await reserved(cluster)
    assert (status, reason) == ("True", "WaitingForAgent")
    assert NAME in message
    assert str(held) in message
    await settle(cluster)
    assert cluster.kernel is None
    assert not await cluster.records()
    assert "ipAddr" not in (await cluster.present_overlay())["status"]
    assert (await reserved(cluster))[:2] == ("False", "RoutesOnly")
    assert (await cluster.announced())[-2:] == ["WaitingForAgent", "RoutesOnly"]


async def test_a_report_about_an_earlier_spec_releases_nothing() -> None:
    cluster = await settle(await routes_only(raw_pool()))
    await cluster.set_policy(overlay_addresses=True)
    await cluster.reconcile()
    (held,) = await cluster.records()
    # The agent may have set the address without having reported it: its last report is that of a node without one.
    assert "configuredIpAddr" not in (await cluster.present_overlay())["status"]
    await cluster.set_policy(overlay_addresses=False)
    await cluster.reconcile()
    assert list(await cluster.records()) == [held]


async def test_switching_off_and_on_before_the_agent_noticed_keeps_the_address() -> None:
    cluster = await with_address()
    (held,) = await cluster.records()
    await cluster.set_policy(overlay_addresses=False)
    await cluster.reconcile()
    await cluster.set_policy(overlay_addresses=True)
    await settle(cluster)
    assert list(await cluster.records()) == [held]
    assert cluster.kernel is not None
    assert cluster.kernel.ip == held
    assert (await reserved(cluster))[:2] == ("True", "Reserved")


async def test_an_unreachable_ipam_is_reported_while_an_address_waits_for_its_release() -> None:
    cluster = await with_address()
    await cluster.set_policy(overlay_addresses=False)
    cluster.ipam_down = True
    await settle(cluster)
    assert len(await cluster.records()) == 1
    status, reason, message = await reserved(cluster)
    assert (status, reason) == ("True", "IpamUnavailable")
    assert "no answer" in message
    cluster.ipam_down = False
    await settle(cluster)
    assert not await cluster.records()
    assert (await reserved(cluster))[1] == "RoutesOnly"


# --- The agent -------------------------------------------------------------------------------------------------------


def routes_only_overlay(**status: object) -> NodeOverlay:
    spec = {"routesOnly": True, "routes": [{"subnet": "192.168.0.0/24", "staticRoute": "r1"}]}
    return overlay(spec=spec, status=status, generation=2)


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan", "address", "none"])
def test_routes_only_in_the_object_overrides_the_link_mode_of_the_agent(mode: str) -> None:
    config = LinkConfig(interface_selector("eth0", None), mode=mode, fallback=IPv4Network("10.0.0.0/8"))  # type: ignore[arg-type]
    mine = routes_only_overlay(ipAddr="192.168.100.4/24", configuredIpAddr="192.168.100.4/24")
    link = desired_link(link_config_for(mine, config), Observed(), MARK)
    desired = desired_state(mine, link, config.fallback)
    assert (desired.address, desired.link, link.name) == (None, None, "")
    assert (len(desired.routes), desired.fallback) == (1, config.fallback)


def test_routes_only_survives_a_restart_of_the_agent() -> None:
    state = encode_checkpoint(routes_only_overlay(ipAddr="192.168.100.4/24"))
    moment = Moment(datetime(2026, 1, 1, tzinfo=UTC), "boot", 1.0)
    content = CheckpointContent(state, encode_confirmation(checkpoint_digest(state), moment))
    checkpoint = decode_checkpoint(content, NAME)
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.overlay.routes_only


# --- StaticRoute.status ----------------------------------------------------------------------------------------------


def test_the_status_of_a_route_names_the_gateway_and_interface_that_the_agent_found() -> None:
    report = {"interface": "eth0", "fallbackGateway": "10.176.162.129", "observedGeneration": 2, "routesDesired": 1}
    mine = routes_only_overlay(**report)
    assert mine.report.fallback == IPv4Address("10.176.162.129")
    status = find_status(static_route(), [ReportingNode(node(NAME), mine)])
    assert status["nodeStatus"] == [{"hostname": NAME, "gateway": "10.176.162.129", "device": "eth0", "state": "Ready"}]
