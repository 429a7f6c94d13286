"""Staged rollouts, route probes, and deletions without confirmation, with the real controller.

Reports are written as agents would, with their field manager.
"""

from typing import Any

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS, OVERLAY_ROUTE_SLICES, STATIC_ROUTES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.slices import node_routes
from tests.component.test_controller import add_pool, agent_reports, create, have_addresses, join
from tests.component.test_routing import condition

NODES = ["n1", "n2", "n3", "n4"]
SUBNET = "10.5.0.0/16"


async def gateways(api: KubeApi) -> list[str]:
    """The last number of each node's gateway; empty if it has no route."""
    routes_by_node = [await node_routes(api, name) for name in NODES]
    return [routes[0]["gateways"][0]["address"].rsplit(".", 1)[1] if routes else "" for routes in routes_by_node]


async def report(api: KubeApi, name: str, **status: Any) -> None:
    generation = (await api.get(NODE_OVERLAY_IPS, name))["metadata"]["generation"]
    await agent_reports(api, name, observedGeneration=generation, **status)


async def in_place(api: KubeApi, *names: str) -> None:
    for name in names:
        await report(api, name)


async def expect_gateways(api: KubeApi, *expected: str) -> None:
    async def updated() -> bool:
        return await gateways(api) == list(expected)

    await eventually(updated, f"gateways {expected}, not {await gateways(api)}")


async def expect_programmed(api: KubeApi, reason: str, *parts: str) -> None:
    async def reported() -> bool:
        _, found, message = await condition(api, "r1", "Programmed")
        return found == reason and all(part in message for part in parts)

    await eventually(reported, f"Programmed is {reason} with {parts}: {await condition(api, 'r1', 'Programmed')}")


async def change(api: KubeApi, gateway: int) -> None:
    await api.merge_patch(STATIC_ROUTES, "r1", {"spec": {"gateway": f"192.168.100.{gateway}"}})


async def start(api: KubeApi, **spec: Any) -> None:
    await have_addresses(api, len(NODES))
    await create(api, STATIC_ROUTES, "r1", {"subnet": SUBNET, "gateway": "192.168.100.1", **spec})


async def test_a_change_is_rolled_out_node_by_node_and_stops_on_failure(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, *NODES)
    async with controller(api_server):
        await start(admin)
        await expect_gateways(admin, "1", "1", "1", "1")
        await in_place(admin, *NODES)
        await expect_programmed(admin, "Programmed")
        await admin.merge_patch(
            STATIC_ROUTES, "r1", {"spec": {"gateway": "192.168.100.2", "rollout": {"maxUnavailable": "20%"}}}
        )
        await expect_gateways(admin, "2", "1", "1", "1")
        await expect_programmed(admin, "RollingOut", "1 of 4 nodes updated", "waiting for n1")
        await in_place(admin, "n1")
        await expect_gateways(admin, "2", "2", "1", "1")
        failure = {"subnet": SUBNET, "staticRoute": "r1", "state": "KernelRefused", "message": "no such device"}
        await report(admin, "n2", routes=[failure], routesFailed=1)
        await expect_programmed(admin, "RolloutStopped", "2 of 4 nodes updated", "not in place on n2", "no such device")
        status = (await admin.get(STATIC_ROUTES, "r1"))["status"]
        assert (status["updated"], status["ready"], status["failed"], status["desired"]) == (2, 1, 1, 4)
    # A restarted controller continues where the rollout stopped and includes reports that arrived meanwhile.
    await report(admin, "n2", routes=[failure | {"message": "still no such device"}], routesFailed=1)
    async with controller(api_server):
        await expect_programmed(admin, "RolloutStopped", "still no such device")
        await join(admin, "n5")
        await have_addresses(admin, 5)

        async def newest() -> bool:
            return [each["gateways"][0]["address"] for each in await node_routes(admin, "n5")] == ["192.168.100.2"]

        await eventually(newest, "a node that joins gets the current generation")
        assert await gateways(admin) == ["2", "2", "1", "1"]
        await change(admin, 3)
        await expect_gateways(admin, "2", "3", "1", "1")
        await in_place(admin, "n2")
        await expect_gateways(admin, "3", "3", "1", "1")
        await in_place(admin, "n1")
        await expect_gateways(admin, "3", "3", "3", "1")
        await in_place(admin, "n3")
        await expect_gateways(admin, "3", "3", "3", "3")
        await in_place(admin, "n4")

        async def everywhere() -> bool:
            await in_place(admin, "n5")
            return (await condition(admin, "r1", "Programmed"))[1] == "Programmed"

        await eventually(everywhere, "the change is in place on all nodes")
        await admin.delete(STATIC_ROUTES, "r1")
        await expect_gateways(admin, "", "", "", "")


async def test_a_rollback_is_reported_on_the_route_and_stops_its_rollout(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, *NODES)
    async with controller(api_server):
        probe = {"tcp": "10.5.0.9:443"}
        await start(admin, probe=probe)
        await expect_gateways(admin, "1", "1", "1", "1")
        (shared,) = (await admin.list(OVERLAY_ROUTE_SLICES)).items
        (listed,) = shared["spec"]["staticRoutes"]
        uid = (await admin.get(STATIC_ROUTES, "r1"))["metadata"]["uid"]
        assert (listed["uid"], listed["generation"], listed["probe"]) == (uid, 1, {**probe, "timeout": "5000ms"})
        entry = {"staticRoute": "r1", "uid": uid, "generation": 1}
        probing = {**entry, "state": "Probing", "message": "is asked", "routes": []}
        await in_place(admin, "n1", "n2")
        await report(admin, "n3", probes=[probing])
        await report(admin, "n4", probes=[{**probing, "state": "RolledBack", "message": "did not answer"}])
        await expect_programmed(admin, "RolledBack", "in place on 2 of 4", "n4: did not answer")
        status = (await admin.get(STATIC_ROUTES, "r1"))["status"]
        assert [(each["hostname"], each["state"]) for each in status["nodeStatus"]] == [
            ("n4", "Failed"),
            ("n3", "Pending"),
            ("n1", "Ready"),
            ("n2", "Ready"),
        ]

        async def announced() -> bool:
            return "RolledBack" in api_server.kubectl("get", "events", "-n", "default")

        await eventually(announced, "an event reports it too")
        await admin.merge_patch(
            STATIC_ROUTES, "r1", {"spec": {"gateway": "192.168.100.2", "rollout": {"maxUnavailable": 1}}}
        )
        # Nodes that are failing are updated first.
        await expect_programmed(admin, "RollingOut", "1 of 4 nodes updated")
        first = (await gateways(admin)).index("2")
        assert NODES[first] in ("n3", "n4")
        again = {**probing, "generation": 2, "state": "RolledBack", "message": "did not answer again"}
        await report(admin, NODES[first], probes=[again])
        await expect_programmed(admin, "RolloutStopped", f"not in place on {NODES[first]}", "did not answer again")
        assert (await gateways(admin)).count("1") == 3


async def test_a_deleted_route_is_reported_until_the_agent_has_confirmed_its_removal(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, *NODES)
    async with controller(api_server):
        await start(admin)
        await expect_gateways(admin, "1", "1", "1", "1")
        await in_place(admin, *NODES)
        api_server.kubectl("delete", "staticroute", "r1", "--timeout=10s")
        await expect_gateways(admin, "", "", "", "")
        await in_place(admin, "n1", "n2", "n3")
        (shared,) = (await admin.list(OVERLAY_ROUTE_SLICES)).items
        (withdrawn,) = shared["spec"]["withdrawn"]
        assert withdrawn["staticRoute"] == "r1"

        async def withdrawal(name: str) -> dict[str, Any]:
            found = (await admin.get(NODE_OVERLAY_IPS, name))["status"]["conditions"]
            return next((each for each in found if each["type"] == "RoutesWithdrawn"), {})

        async def named() -> bool:
            found = await withdrawal("n4")
            return (
                found.get("reason") == "WaitingForAgent" and "node n4 may still have routes of r1" in found["message"]
            )

        await eventually(named, "the NodeOverlayIp reports which routes the kernel may still have")

        async def announced() -> bool:
            events = api_server.kubectl("get", "events", "-n", "default")
            return any("RoutesNotConfirmedGone" in line and "n4" in line for line in events.splitlines())

        await eventually(announced, "an event reports it too")

        async def only_there() -> bool:
            return not await withdrawal("n3")

        await eventually(only_there, "agents that have confirmed are not reported")
        await in_place(admin, "n4")

        async def confirmed() -> bool:
            return not await withdrawal("n4")

        await eventually(confirmed, "the agent has confirmed")
