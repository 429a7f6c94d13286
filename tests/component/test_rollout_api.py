"""Staged roll-outs, reports of probes, and deletions that an agent does not confirm, through the real controller.

The reports are written as the nodes' agents would, through their field manager.
"""

from typing import Any

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS, STATIC_ROUTES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.test_controller import add_pool, agent_reports, create, have_addresses, join
from tests.component.test_routing import condition, parse_routes

NODES = ["n1", "n2", "n3", "n4"]
SUBNET = "10.5.0.0/16"


async def ways(api: KubeApi) -> list[str]:
    """Of each node, the last number of the gateway that it was told; empty: it has no route."""
    told = [await parse_routes(api, name) for name in NODES]
    return [routes[0]["gateways"][0]["address"].rsplit(".", 1)[1] if routes else "" for routes in told]


async def report(api: KubeApi, name: str, **status: Any) -> None:
    generation = (await api.get(NODE_OVERLAY_IPS, name))["metadata"]["generation"]
    await agent_reports(api, name, observedGeneration=generation, **status)


async def in_place(api: KubeApi, *names: str) -> None:
    for name in names:
        await report(api, name)


async def become(api: KubeApi, *expected: str) -> None:
    async def so() -> bool:
        return await ways(api) == list(expected)

    await eventually(so, f"the nodes are told {expected}, and not {await ways(api)}")


async def says(api: KubeApi, reason: str, *parts: str) -> None:
    async def so() -> bool:
        _, found, message = await condition(api, "r1", "Programmed")
        return found == reason and all(part in message for part in parts)

    await eventually(so, f"Programmed is {reason} with {parts}: {await condition(api, 'r1', 'Programmed')}")


async def change(api: KubeApi, gateway: int) -> None:
    await api.merge_patch(STATIC_ROUTES, "r1", {"spec": {"gateway": f"192.168.100.{gateway}"}})


async def start(api: KubeApi, **spec: Any) -> None:
    await have_addresses(api, len(NODES))
    await create(api, STATIC_ROUTES, "r1", {"subnet": SUBNET, "gateway": "192.168.100.1", **spec})


async def test_a_change_reaches_one_node_after_the_other_and_stops_where_it_fails(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, *NODES)
    async with controller(api_server):
        await start(admin)
        await become(admin, "1", "1", "1", "1")
        assert "generations" not in (await admin.get(NODE_OVERLAY_IPS, "n1"))["spec"]
        await in_place(admin, *NODES)
        await says(admin, "Programmed")
        await admin.merge_patch(
            STATIC_ROUTES, "r1", {"spec": {"gateway": "192.168.100.2", "rollout": {"maxUnavailable": "20%"}}}
        )
        await become(admin, "2", "1", "1", "1")
        await says(admin, "RollingOut", "1 of 4 nodes updated", "waiting for n1")
        await in_place(admin, "n1")
        await become(admin, "2", "2", "1", "1")
        failure = {"subnet": SUBNET, "staticRoute": "r1", "state": "KernelRefused", "message": "no such device"}
        await report(admin, "n2", routes=[failure], routesFailed=1)
        await says(admin, "RolloutStopped", "2 of 4 nodes updated", "not in place on n2", "no such device")
        status = (await admin.get(STATIC_ROUTES, "r1"))["status"]
        assert (status["updated"], status["ready"], status["failed"], status["desired"]) == (2, 1, 1, 4)
    # Another controller finds it where it stood, tells what was reported meanwhile, and changes only what it may.
    await report(admin, "n2", routes=[failure | {"message": "still no such device"}], routesFailed=1)
    async with controller(api_server):
        await says(admin, "RolloutStopped", "still no such device")
        await join(admin, "n5")
        await have_addresses(admin, 5)

        async def newest() -> bool:
            return [each["gateways"][0]["address"] for each in await parse_routes(admin, "n5")] == ["192.168.100.2"]

        await eventually(newest, "a node that joins gets the newest")
        assert await ways(admin) == ["2", "2", "1", "1"]
        await change(admin, 3)
        await become(admin, "2", "3", "1", "1")
        await in_place(admin, "n2")
        await become(admin, "3", "3", "1", "1")
        await in_place(admin, "n1")
        await become(admin, "3", "3", "3", "1")
        await in_place(admin, "n3")
        await become(admin, "3", "3", "3", "3")
        await in_place(admin, "n4")

        async def everywhere() -> bool:
            await in_place(admin, "n5")
            return (await condition(admin, "r1", "Programmed"))[1] == "Programmed"

        await eventually(everywhere, "the change is everywhere")
        await admin.delete(STATIC_ROUTES, "r1")
        await become(admin, "", "", "", "")


async def test_what_agents_took_back_is_a_condition_of_the_route_and_stops_its_roll_out(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, *NODES)
    async with controller(api_server):
        probe = {"tcp": "10.5.0.9:443"}
        await start(admin, probe=probe)
        await become(admin, "1", "1", "1", "1")
        (told,) = (await admin.get(NODE_OVERLAY_IPS, "n1"))["spec"]["generations"]
        route = await admin.get(STATIC_ROUTES, "r1")
        assert told == {
            "staticRoute": "r1",
            "uid": route["metadata"]["uid"],
            "generation": 1,
            "probe": {**probe, "timeout": "5000ms"},
        }
        tried = {"staticRoute": "r1", "uid": told["uid"], "generation": 1}
        probing = {**tried, "state": "Probing", "message": "is asked", "routes": []}
        await in_place(admin, "n1", "n2")
        await report(admin, "n3", probes=[probing])
        await report(admin, "n4", probes=[{**probing, "state": "RolledBack", "message": "did not answer"}])
        await says(admin, "RolledBack", "in place on 2 of 4", "n4: did not answer")
        status = (await admin.get(STATIC_ROUTES, "r1"))["status"]
        assert [(each["hostname"], each["state"]) for each in status["nodeStatus"]] == [
            ("n4", "Failed"),
            ("n3", "Pending"),
            ("n1", "Ready"),
            ("n2", "Ready"),
        ]

        async def announced() -> bool:
            return "RolledBack" in api_server.kubectl("get", "events", "-n", "default")

        await eventually(announced, "an event says so too")
        await admin.merge_patch(
            STATIC_ROUTES, "r1", {"spec": {"gateway": "192.168.100.2", "rollout": {"maxUnavailable": 1}}}
        )
        # The node that took the last change back has the least to lose.
        await says(admin, "RollingOut", "1 of 4 nodes updated")
        first = (await ways(admin)).index("2")
        assert NODES[first] in ("n3", "n4")
        again = {**probing, "generation": 2, "state": "RolledBack", "message": "did not answer again"}
        await report(admin, NODES[first], probes=[again])
        await says(admin, "RolloutStopped", f"not in place on {NODES[first]}", "did not answer again")
        assert (await ways(admin)).count("1") == 3


async def test_a_deleted_route_that_no_agent_confirms_is_named_with_its_node(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, *NODES)
    async with controller(api_server):
        await start(admin)
        await become(admin, "1", "1", "1", "1")
        await in_place(admin, *NODES)
        api_server.kubectl("delete", "staticroute", "r1", "--timeout=10s")
        await become(admin, "", "", "", "")
        await in_place(admin, "n1", "n2", "n3")
        (withdrawn,) = (await admin.get(NODE_OVERLAY_IPS, "n4"))["spec"]["withdrawn"]
        assert withdrawn["staticRoute"] == "r1"
        # As if that had been a while ago.
        earlier = {"staticRoute": "r1", "since": "2026-01-01T00:00:00Z"}
        for name in ("n3", "n4"):
            await admin.merge_patch(NODE_OVERLAY_IPS, name, {"spec": {"withdrawn": [earlier]}})
        await in_place(admin, "n3")

        async def withdrawal(name: str) -> dict[str, Any]:
            found = (await admin.get(NODE_OVERLAY_IPS, name))["status"]["conditions"]
            return next((each for each in found if each["type"] == "RoutesWithdrawn"), {})

        async def named() -> bool:
            told = await withdrawal("n4")
            return told.get("reason") == "WaitingForAgent" and "node n4 may still have routes of r1" in told["message"]

        await eventually(named, "the node's object says what its kernel may still have")

        async def announced() -> bool:
            events = api_server.kubectl("get", "events", "-n", "default")
            return any("RoutesNotConfirmedGone" in line and "n4" in line for line in events.splitlines())

        await eventually(announced, "an event says so too")

        async def only_there() -> bool:
            return not await withdrawal("n3")

        await eventually(only_there, "an agent that has confirmed is not named")
        await in_place(admin, "n4")

        async def over() -> bool:
            return not await withdrawal("n4")

        await eventually(over, "the agent is back and has confirmed")
