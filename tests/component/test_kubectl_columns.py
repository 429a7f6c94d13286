"""What `kubectl get` and `kubectl wait` show of the objects, through a real API server."""

import asyncio
from ipaddress import ip_network

import pytest

from lab.cluster.api_server import ApiServer
from lab.processes import CommandFailed
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.desired_route import RouteSpec
from overlay_net.model.names import NODE_OVERLAY_IPS, OVERLAY_ROUTE_SLICES, STATIC_ROUTES
from overlay_net.model.route_slice import SliceContent, slice_manifest
from overlay_net.model.slice_entry import SliceEntry
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.slices import node_routes
from tests.component.test_controller import add_pool, agent_condition, agent_reports, create, have_addresses, join
from tests.component.test_events import expect_event


async def rows(api_server: ApiServer, kind: str) -> dict[str, dict[str, str]]:
    """The lines of `kubectl get -o wide` by name."""
    header, lines = await asyncio.to_thread(api_server.table, kind, "-o", "wide")
    return {line[0]: dict(zip(header, line, strict=True)) for line in lines}


async def expect_row(api_server: ApiServer, kind: str, name: str, **cells: str) -> None:
    desired = {column.replace("_", "-"): cell for column, cell in cells.items()}

    async def shown() -> bool:
        row = (await rows(api_server, kind)).get(name, {})
        return {column: row.get(column) for column in desired} == desired

    await eventually(shown, f"kubectl get {kind} shows {name} with {desired}")


async def test_ready_and_reason_are_those_of_one_condition_on_every_kind(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin, "tiny", cidr="192.168.200.0/30", gateway="192.168.200.1")
    await join(admin, "n1", "n2")
    await create(admin, STATIC_ROUTES, "several", {"subnets": ["10.6.0.0/16", "10.5.0.0/16", "10.7.0.0/16"]})
    await create(admin, STATIC_ROUTES, "inside", {"subnet": "10.0.0.0/8", "gateway": "10.9.0.1"})
    await create(admin, STATIC_ROUTES, "default", {"subnet": "0.0.0.0/0"})
    hops = [{"address": "192.168.200.1"}, {"address": "192.168.200.2", "weight": 2}]
    await create(admin, STATIC_ROUTES, "balanced", {"subnet": "10.8.0.0/16", "gateways": hops})
    async with controller(api_server):
        await have_addresses(admin, 1)
        await expect_row(
            api_server, "opool", "tiny", READY="False", REASON="Exhausted", WHY="no free address; total: 1"
        )
        for name in ("inside", "default"):
            await expect_row(api_server, "sroute", name, READY="False", REASON="Protected", GATEWAYS="Unknown")
            row = (await rows(api_server, "sroute"))[name]
            assert row["SUBNET"] in row["WHY"]
        await expect_row(
            api_server, "sroute", "several", SUBNET="10.6.0.0/16 + 2 more", GATEWAY="", READY="False", REASON="Pending"
        )
        await expect_row(api_server, "sroute", "inside", GATEWAY="10.9.0.1")
        await expect_row(api_server, "sroute", "balanced", GATEWAY="192.168.200.1 + 1 more")
        (ready,) = [item["metadata"]["name"] for item in (await admin.list(NODE_OVERLAY_IPS)).items if address(item)]
        other = "n2" if ready == "n1" else "n1"
        await expect_row(api_server, "noip", other, RESERVATION="Exhausted", READY="", REASON="")
        conditions = [agent_condition("Ready", "False", "NotConfigured")]
        await agent_reports(admin, other, observedGeneration=99, conditions=conditions)
        await expect_row(api_server, "noip", other, RESERVATION="Exhausted", READY="False", REASON="NotConfigured")


async def test_a_pool_that_contradicts_another_one_shows_why(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin, "alone", cidr="192.168.50.0/24", gateway="192.168.50.1")
    await add_pool(admin, "outer", cidr="192.168.200.0/24", gateway="192.168.200.1")
    async with controller(api_server):
        await expect_row(api_server, "opool", "outer", READY="True", CONFLICT="")
        await add_pool(admin, "inner", cidr="192.168.200.128/25", gateway="192.168.200.129")
        for name in ("outer", "inner"):
            await expect_row(api_server, "opool", name, READY="True", CONFLICT="GatewayInOtherPool")
        await expect_row(api_server, "opool", "alone", READY="True", CONFLICT="")


def address(item: dict[str, object]) -> bool:
    status = item.get("status")
    return isinstance(status, dict) and "ipAddr" in status


async def test_slices_are_listed_with_set_routes_generation_and_selector(admin: KubeApi, api_server: ApiServer) -> None:
    subnets = tuple(ip_network(f"10.{number}.0.0/16") for number in range(3))
    entry = SliceEntry("r1", "u", 1, "2026-01-01T00:00:00Z", subnets, RouteSpec())
    content = SliceContent("rs-a", "zone:dal10,pool in (a,b)", (0,), (entry,), generation=1764201600)
    await admin.create(OVERLAY_ROUTE_SLICES, slice_manifest(0, content))
    await expect_row(
        api_server,
        "oslice",
        "rs-a-0",
        SET="rs-a",
        ROUTES="3",
        GENERATION="1764201600",
        SELECTOR="zone:dal10,pool in (a,b)",
    )


async def test_a_rejected_route_causes_an_event_with_the_reason(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    uid = (await create(admin, STATIC_ROUTES, "default", {"subnet": "0.0.0.0/0"}))["metadata"]["uid"]
    await create(admin, STATIC_ROUTES, "older", {"subnet": "10.5.0.0/16"})
    async with controller(api_server):
        await expect_event(api_server, uid, "Warning", "Protected", "0.0.0.0/0 is a default route")
        # Creation times have whole seconds; among equals the name decides.
        newer = await create(admin, STATIC_ROUTES, "second", {"subnet": "10.5.0.0/16", "gateway": "192.168.100.254"})
        await expect_event(api_server, newer["metadata"]["uid"], "Warning", "Conflict", "older")


async def test_kubectl_waits_until_a_route_is_in_place(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.5.0.0/16"})
    # No controller has read the objects yet: tools that wait must not take them for ready.
    for kind, name in (("sroute", "r1"), ("opool", "p1")):
        await expect_row(api_server, kind, name, READY="Unknown", REASON="Pending")
    wait = ("wait", "sroute/r1", "--for=condition=Ready")
    async with controller(api_server):
        await have_addresses(admin, 1)
        with pytest.raises(CommandFailed, match="timed out"):
            await asyncio.to_thread(api_server.kubectl, *wait, "--timeout=1s")
        waiting = asyncio.create_task(asyncio.to_thread(api_server.kubectl, *wait, "--timeout=60s"))

        async def routed() -> bool:
            return bool(await node_routes(admin, "n1"))

        await eventually(routed, "the node has its route")
        answers = agent_condition("GatewayReachable", "True", "Reachable")
        await agent_reports(admin, "n1", observedGeneration=99, routesDesired=1, routesReady=1, conditions=[answers])
        assert "condition met" in await waiting
        status = (await admin.get(STATIC_ROUTES, "r1"))["status"]
        assert {each["observedGeneration"] for each in status["conditions"]} == {status["observedGeneration"]} == {1}
