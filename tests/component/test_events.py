"""Events as kubectl shows them: the controller writes them for what agents report."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer
from lab.processes import CommandFailed
from lab.product import NAMESPACE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS, OVERLAY_POOLS, STATIC_ROUTES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.slices import node_routes
from tests.component.test_controller import add_pool, addresses, agent_reports, create, have_addresses, join

MAC = "52:54:00:00:00:09"


def find_events(api_server: ApiServer, uid: str) -> list[tuple[str, str, str]]:
    """Type, reason and message of the events of one object, as `kubectl get events` shows them."""
    shown = api_server.get("events", "-n", "default", f"--field-selector=involvedObject.uid={uid}")
    return [(each["type"], each["reason"], each["message"]) for each in shown["items"]]


def condition(status: str, reason: str, message: str) -> dict[str, str]:
    since = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    return {
        "type": "Configured",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }


async def start_node(api: KubeApi) -> tuple[str, str]:
    """Uid of the NodeOverlayIp of a configured node, and its address."""
    await have_addresses(api, 1)
    address = (await addresses(api))["n1"]
    await agent_reports(
        api, "n1", configuredIpAddr=f"{address}/24", conditions=[condition("True", "Configured", "it is on the link")]
    )
    return str((await api.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["uid"]), address


async def expect_event(api_server: ApiServer, uid: str, kind: str, reason: str, message: str) -> None:
    async def found() -> bool:
        return any(each[:2] == (kind, reason) and message in each[2] for each in find_events(api_server, uid))

    await eventually(found, f"an event {reason} with message {message!r}")


async def test_address_conflict_quarantine_and_new_address_are_announced(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    async with controller(api_server):
        uid, address = await start_node(admin)
        pool = str((await admin.get(OVERLAY_POOLS, "p1"))["metadata"]["uid"])
        await expect_event(api_server, pool, "Normal", "Reserved", f"addresses reserved for 1 node: n1 ({address})")
        found = f"{address} is in use by {MAC} and was not configured"
        await agent_reports(
            admin, "n1", conflictingIpAddr=address, conditions=[condition("False", "AddressConflict", found)]
        )
        await expect_event(api_server, uid, "Warning", "AddressConflict", found)
        await expect_event(api_server, uid, "Warning", "AddressQuarantined", f"{address} is in use by {MAC}")

        async def moved() -> bool:
            return (await addresses(admin)).get("n1") not in (None, address)

        await eventually(moved, "the node gets another address")
        new = (await addresses(admin))["n1"]
        await expect_event(api_server, uid, "Normal", "Reserved", f"{new} is reserved from pool p1")


async def test_a_conflict_of_a_pinned_address_is_announced_and_the_address_kept(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    async with controller(api_server):
        uid, address = await start_node(admin)
        await admin.merge_patch(NODE_OVERLAY_IPS, "n1", {"spec": {"ipAddr": address}})
        found = f"{address} is in use by {MAC} and was not configured"
        await agent_reports(
            admin, "n1", conflictingIpAddr=address, conditions=[condition("False", "AddressConflict", found)]
        )
        await expect_event(api_server, uid, "Warning", "AddressConflict", found)
        assert (await addresses(admin))["n1"] == address


async def test_another_host_that_claims_an_address_in_use_is_announced(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    async with controller(api_server):
        uid, address = await start_node(admin)
        claimed = f"{address}/24 is on the link and defended; {MAC} claims it too"
        configured = {"configuredIpAddr": f"{address}/24"}
        await agent_reports(admin, "n1", **configured, conditions=[condition("True", "AddressClaimed", claimed)])
        await expect_event(api_server, uid, "Warning", "AddressClaimed", claimed)
        resolved = condition("True", "Configured", f"{address}/24 is on the link")
        await agent_reports(admin, "n1", **configured, conditions=[resolved])
        await expect_event(api_server, uid, "Normal", "Configured", f"resolved: {claimed}")


async def test_gateway_and_route_changes_are_announced_and_repeated_events_are_counted(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.5.0.0/16"})
    await join(admin, "n1")
    async with controller(api_server):
        uid, _ = await start_node(admin)

        async def routed() -> bool:
            return bool(await node_routes(admin, "n1"))

        await eventually(routed, "the node has its route")
        down = [{"address": "192.168.100.1", "message": "no answer to ARP on tmp0"}]
        for _ in range(2):
            for generation in (1, 2):
                # The second report repeats the first.
                await agent_reports(admin, "n1", observedGeneration=generation, gateways=down)
            await expect_event(api_server, uid, "Warning", "GatewayDown", "192.168.100.1: no answer to ARP on tmp0")
            await agent_reports(admin, "n1", observedGeneration=2)
            await expect_event(api_server, uid, "Normal", "GatewayUp", "192.168.100.1 answers again")
        foreign = {"subnet": "10.5.0.0/16", "staticRoute": "r1", "state": "ForeignRoute", "message": "it has another"}
        await agent_reports(admin, "n1", routesDesired=1, routesFailed=1, routes=[foreign])
        await expect_event(api_server, uid, "Warning", "RoutesFailing", "10.5.0.0/16: it has another")
        await agent_reports(admin, "n1", routesDesired=1, routesReady=1)
        await expect_event(api_server, uid, "Normal", "RoutesInPlace", "1 route is in place")

        async def counted() -> bool:
            shown = json.loads(api_server.kubectl("get", "events.events.k8s.io", "-n", "default", "-o", "json"))
            series = [each.get("series", {}) for each in find_series(shown["items"], uid, "GatewayDown")]
            return [each.get("count") for each in series] == [2]

        await eventually(counted, "one event, counted twice")
        described = api_server.kubectl("describe", "noip", "n1")
        assert "GatewayDown" in described
        assert "RoutesFailing" in described


def find_series(items: list[dict[str, Any]], uid: str, reason: str) -> list[dict[str, Any]]:
    return [each for each in items if (each["regarding"]["uid"], each["reason"]) == (uid, reason)]


def test_agents_may_not_write_events(api_server: ApiServer) -> None:
    agent = f"--as=system:serviceaccount:{NAMESPACE}:overlay-net-agent"
    for verb in ("create", "patch"):
        with pytest.raises(CommandFailed):
            api_server.kubectl("auth", "can-i", verb, "events.events.k8s.io", agent, "-n", "default")
