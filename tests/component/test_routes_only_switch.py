"""Overlay addresses disabled, and disabled and enabled again, against a real API server."""

from typing import Any

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.errors import NotFound
from overlay_net.model.names import FINALIZER, NODE_OVERLAY_IPS, NODES, REGION_LABELS, STATIC_ROUTES, ZONE_LABELS
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.slices import node_routes
from tests.component.test_controller import (
    add_pool,
    addresses,
    agent_reports,
    all_agents_use_their_address,
    create,
    have_addresses,
    join,
    reason,
    records,
)


async def overlay(api: KubeApi, name: str) -> dict[str, Any]:
    try:
        return await api.get(NODE_OVERLAY_IPS, name)
    except NotFound:
        return {}


async def has_reason(api: KubeApi, name: str, desired: str) -> None:
    async def there() -> bool:
        return await reason(api, name) == desired

    await eventually(there, f"{name} is {desired}")


async def wait_routes_only(api: KubeApi, name: str) -> int:
    """The generation with routesOnly in the spec."""

    async def there() -> bool:
        spec = (await overlay(api, name)).get("spec", {})
        return spec.get("routesOnly") is True

    await eventually(there, f"the spec of {name} has routesOnly")
    return int((await overlay(api, name))["metadata"]["generation"])


async def nothing_left(api: KubeApi, name: str) -> None:
    async def there() -> bool:
        return not await records(api) and "releasing" not in (await overlay(api, name))["status"]

    await eventually(there, "every record is released, and none is listed as being released")


async def test_nodes_need_no_pool_and_reserve_nothing(admin: KubeApi, api_server: ApiServer) -> None:
    await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.5.0.0/16"})
    await create(admin, STATIC_ROUTES, "r2", {"subnet": "10.6.0.0/16", "gateway": "10.176.162.190"})
    async with controller(api_server, overlay_addresses="false"):
        await join(admin, "n1")
        await has_reason(admin, "n1", "RoutesOnly")
        generation = await wait_routes_only(admin, "n1")
        routes = {each["subnet"]: each.get("gateways", []) for each in await node_routes(admin, "n1")}
        assert routes["10.5.0.0/16"] == []
        assert [each["address"] for each in routes["10.6.0.0/16"]] == ["10.176.162.190"]
        report = {"interface": "eth0", "fallbackGateway": "10.176.162.129", "routesDesired": 2, "routesReady": 2}
        await agent_reports(admin, "n1", observedGeneration=generation, **report)

        async def folded() -> bool:
            status = (await admin.get(STATIC_ROUTES, "r1")).get("status", {})
            desired = {"hostname": "n1", "gateway": "10.176.162.129", "device": "eth0", "state": "Ready"}
            return desired in status.get("nodeStatus", [])

        await eventually(folded, "the StaticRoute names the gateway that the agent found")
        assert await records(admin) == {}
        assert "RoutesOnly" in api_server.kubectl("get", "noip", "n1")
        assert "10.176.162.129" in api_server.kubectl("get", "noip", "n1", "-o", "wide")


async def test_disabling_releases_an_address_after_its_agent_removed_it_and_enabling_reserves_one_again(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    async with controller(api_server):
        await join(admin, "n1")
        await have_addresses(admin, 1)
        await all_agents_use_their_address(admin)
        held = (await addresses(admin))["n1"]
    async with controller(api_server, overlay_addresses="false"):
        generation = await wait_routes_only(admin, "n1")
        await has_reason(admin, "n1", "WaitingForAgent")
        # The agent has observed it, and has not removed the address yet.
        await agent_reports(admin, "n1", observedGeneration=generation, configuredIpAddr=f"{held}/24")
        await join(admin, "n2")
        await has_reason(admin, "n2", "RoutesOnly")
        assert await records(admin) == {held: "n1"}
        assert await addresses(admin) == {"n1": held}
        await agent_reports(admin, "n1", observedGeneration=generation)
        await has_reason(admin, "n1", "RoutesOnly")
        await nothing_left(admin, "n1")
        assert await addresses(admin) == {}
        assert not {"gateway", "pool", "nodeUID"} & (await overlay(admin, "n1"))["status"].keys()
    async with controller(api_server):
        await have_addresses(admin, 2)
        await has_reason(admin, "n1", "Reserved")

        async def enabled() -> bool:
            return "routesOnly" not in (await overlay(admin, "n1"))["spec"]

        await eventually(enabled, "the spec has no routesOnly any more")


async def test_an_interrupted_release_is_completed(admin: KubeApi, api_server: ApiServer) -> None:
    """The addresses that status lists as being released are checked in the IPAM again."""
    await add_pool(admin)
    async with controller(api_server):
        await join(admin, "n1")
        await have_addresses(admin, 1)
    async with controller(api_server, overlay_addresses="false"):
        generation = await wait_routes_only(admin, "n1")
    body = NODE_OVERLAY_IPS.manifest("n1", status={"releasing": list(await records(admin))})
    await admin.apply(NODE_OVERLAY_IPS, "n1", body, field_manager="overlay-net-controller", subresource="status")
    await agent_reports(admin, "n1", observedGeneration=generation)
    async with controller(api_server, overlay_addresses="false"):
        await has_reason(admin, "n1", "RoutesOnly")
        await nothing_left(admin, "n1")


async def test_an_object_of_the_earlier_operator_loses_its_address_when_overlay_addresses_are_disabled(
    admin: KubeApi, api_server: ApiServer
) -> None:
    """Another field manager has the address, too."""
    await add_pool(admin)
    labels = {"node": "n1", "zone": "earlier", "team": "a"}
    await create(admin, NODE_OVERLAY_IPS, "n1", {}, labels=labels, finalizers=[FINALIZER])
    status = {"ipAddr": "192.168.100.44/24", "gateway": "192.168.100.1", "interface": "eth0"}
    await admin.merge_patch(NODE_OVERLAY_IPS, "n1", {"status": status}, subresource="status")
    await join(admin, "n1")
    async with controller(api_server):
        await has_reason(admin, "n1", "Reserved")
        assert await addresses(admin) == {"n1": "192.168.100.44"}
    await admin.merge_patch(NODES, "n1", {"metadata": {"labels": dict.fromkeys((*ZONE_LABELS, *REGION_LABELS))}})
    async with controller(api_server, overlay_addresses="false"):
        generation = await wait_routes_only(admin, "n1")
        await agent_reports(admin, "n1", observedGeneration=generation, interface="eth0")
        await has_reason(admin, "n1", "RoutesOnly")
        await nothing_left(admin, "n1")
        found = await overlay(admin, "n1")
        assert not {"ipAddr", "gateway", "pool", "nodeUID"} & found["status"].keys()
        assert found["metadata"]["labels"] == {"node": "n1", "team": "a"}
