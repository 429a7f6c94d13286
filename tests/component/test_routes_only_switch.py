"""The controller without overlay addresses against a real API server, and switched off and on again."""

from typing import Any

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.errors import NotFound
from overlay_net.model.names import NODE_OVERLAY_IPS, STATIC_ROUTES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
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


async def told_routes_only(api: KubeApi, name: str) -> int:
    """The generation at which the agent hears it."""

    async def there() -> bool:
        spec = (await overlay(api, name)).get("spec", {})
        return spec.get("routesOnly") is True

    await eventually(there, f"{name} is told that it has routes only")
    return int((await overlay(api, name))["metadata"]["generation"])


async def nothing_left(api: KubeApi, name: str) -> None:
    async def there() -> bool:
        return not await records(api) and "releasing" not in (await overlay(api, name))["status"]

    await eventually(there, "every record is released and forgotten")


async def test_nodes_need_no_pool_and_reserve_nothing(admin: KubeApi, api_server: ApiServer) -> None:
    await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.5.0.0/16"})
    await create(admin, STATIC_ROUTES, "r2", {"subnet": "10.6.0.0/16", "gateway": "10.176.162.190"})
    async with controller(api_server, overlay_addresses="false"):
        await join(admin, "n1")
        await has_reason(admin, "n1", "RoutesOnly")
        generation = await told_routes_only(admin, "n1")
        routes = {each["subnet"]: each.get("gateways", []) for each in (await overlay(admin, "n1"))["spec"]["routes"]}
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


async def test_an_address_is_released_after_the_agent_let_go_and_comes_back_when_wanted(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    async with controller(api_server):
        await join(admin, "n1")
        await have_addresses(admin, 1)
        await all_agents_use_their_address(admin)
        held = (await addresses(admin))["n1"]
    async with controller(api_server, overlay_addresses="false"):
        generation = await told_routes_only(admin, "n1")
        await has_reason(admin, "n1", "WaitingForAgent")
        # Heard, and still at work.
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

        async def told() -> bool:
            return "routesOnly" not in (await overlay(admin, "n1"))["spec"]

        await eventually(told, "the agent is told that there is an address again")


async def test_a_controller_that_died_between_release_and_status_goes_on(admin: KubeApi, api_server: ApiServer) -> None:
    """What the node's object lists as being released is looked for again, whatever became of it."""
    await add_pool(admin)
    async with controller(api_server):
        await join(admin, "n1")
        await have_addresses(admin, 1)
    async with controller(api_server, overlay_addresses="false"):
        generation = await told_routes_only(admin, "n1")
    body = {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": NODE_OVERLAY_IPS.kind, "metadata": {"name": "n1"}}
    left = {"releasing": list(await records(admin))}
    await admin.apply(
        NODE_OVERLAY_IPS, "n1", body | {"status": left}, field_manager="overlay-net-controller", subresource="status"
    )
    await agent_reports(admin, "n1", observedGeneration=generation)
    async with controller(api_server, overlay_addresses="false"):
        await has_reason(admin, "n1", "RoutesOnly")
        await nothing_left(admin, "n1")
