"""StaticRoutes through the slices of their route sets, against a real API server: what is written, and when."""

from typing import Any

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import (
    CONTROLLER_FIELD_MANAGER,
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_ROUTE_SLICES,
    STATIC_ROUTES,
)
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.slices import node_routes
from tests.component.test_controller import agent_reports, create, join

GATEWAY = "10.176.162.190"
NAMES = ("n1", "n2", "n3")


async def add_route(api: KubeApi, name: str, number: int, **spec: Any) -> None:
    await create(api, STATIC_ROUTES, name, {"subnet": f"10.{number}.0.0/16", "gateway": GATEWAY, **spec})


async def expect_routes(api: KubeApi, node: str, *static_routes: str) -> None:
    async def routed() -> bool:
        return [each["staticRoute"] for each in await node_routes(api, node)] == list(static_routes)

    await eventually(routed, f"{node} has the routes of {static_routes}")


async def slices(api: KubeApi) -> dict[str, dict[str, Any]]:
    return {raw["metadata"]["name"]: raw for raw in (await api.list(OVERLAY_ROUTE_SLICES)).items}


async def generations(api: KubeApi) -> dict[str, int]:
    """Of the objects of all nodes."""
    return {raw["metadata"]["name"]: raw["metadata"]["generation"] for raw in (await api.list(NODE_OVERLAY_IPS)).items}


async def report_all(api: KubeApi) -> None:
    for raw in (await api.list(NODE_OVERLAY_IPS)).items:
        await agent_reports(api, raw["metadata"]["name"], observedGeneration=raw["metadata"]["generation"])


async def named_sets(api: KubeApi, node: str) -> list[str]:
    return [each["name"] for each in (await api.get(NODE_OVERLAY_IPS, node))["spec"].get("routeSets", [])]


async def test_one_more_static_route_is_one_write_and_none_of_a_node(admin: KubeApi, api_server: ApiServer) -> None:
    await add_route(admin, "r1", 1)
    async with controller(api_server, overlay_addresses="false"):
        await join(admin, *NAMES)
        for name in NAMES:
            await expect_routes(admin, name, "r1")
        await report_all(admin)
        ((slice_name, before),) = (await slices(admin)).items()
        written = await generations(admin)
        await add_route(admin, "r2", 2)
        for name in NAMES:
            await expect_routes(admin, name, "r1", "r2")
        await admin.merge_patch(STATIC_ROUTES, "r2", {"spec": {"metric": 7}})

        async def edited() -> bool:
            return (await node_routes(admin, "n1"))[1].get("metric") == 7

        await eventually(edited, "the change reaches the nodes")
        await admin.delete(STATIC_ROUTES, "r1")
        for name in NAMES:
            await expect_routes(admin, name, "r2")
        ((same, after),) = (await slices(admin)).items()
        assert (same, after["metadata"]["generation"]) == (slice_name, before["metadata"]["generation"] + 3)
        assert await generations(admin) == written, "no object of a node was written"
    async with controller(api_server, overlay_addresses="false"):
        await add_route(admin, "r3", 3)
        await expect_routes(admin, "n3", "r2", "r3")
        ((_, last),) = (await slices(admin)).items()
        assert last["metadata"]["generation"] == after["metadata"]["generation"] + 1, "a restart writes nothing"
        assert await generations(admin) == written


async def test_a_slice_that_is_edited_or_deleted_by_hand_comes_back(admin: KubeApi, api_server: ApiServer) -> None:
    await add_route(admin, "r1", 1)
    async with controller(api_server, overlay_addresses="false"):
        await join(admin, "n1")
        await expect_routes(admin, "n1", "r1")
        ((name, before),) = (await slices(admin)).items()
        await admin.merge_patch(OVERLAY_ROUTE_SLICES, name, {"spec": {"staticRoutes": []}})
        await expect_routes(admin, "n1", "r1")
        await admin.delete(OVERLAY_ROUTE_SLICES, name)

        async def is_back() -> bool:
            found = (await slices(admin)).get(name)
            return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

        await eventually(is_back, "the slice was created again")
        await expect_routes(admin, "n1", "r1")


async def test_nodes_follow_selectors_that_appear_and_labels_that_change(admin: KubeApi, api_server: ApiServer) -> None:
    await add_route(admin, "r1", 1)
    async with controller(api_server, overlay_addresses="false"):
        await join(admin, "n1", "n2")
        for name in ("n1", "n2"):
            await expect_routes(admin, name, "r1")
        await add_route(admin, "r2", 2, nodeSelector={"matchLabels": {"tier": "edge"}})
        await admin.merge_patch(NODES, "n1", {"metadata": {"labels": {"tier": "edge"}}})
        await expect_routes(admin, "n1", "r1", "r2")
        assert len(await named_sets(admin, "n1")) == 2
        await expect_routes(admin, "n2", "r1")
        await add_route(admin, "r3", 3, nodeSelector={"matchLabels": {"tier": "edge"}})
        await expect_routes(admin, "n1", "r1", "r2", "r3")
        await report_all(admin)
        await admin.merge_patch(NODES, "n1", {"metadata": {"labels": {"tier": None}}})
        await expect_routes(admin, "n1", "r1")
        spec = (await admin.get(NODE_OVERLAY_IPS, "n1"))["spec"]
        assert sorted(each["staticRoute"] for each in spec["withdrawn"]) == ["r2", "r3"]


EARLIER = [{"subnet": "10.1.0.0/16", "staticRoute": "r1", "gateways": [{"address": GATEWAY}]}]


async def test_routes_that_an_earlier_version_wrote_stay_until_the_agent_reads_slices(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_route(admin, "r1", 1)
    await join(admin, "n1")
    body = NODE_OVERLAY_IPS.manifest("n1", spec={"routes": EARLIER, "generations": [], "omitted": ["r9"]})
    await admin.apply(NODE_OVERLAY_IPS, "n1", body, field_manager=CONTROLLER_FIELD_MANAGER)
    async with controller(api_server, overlay_addresses="false"):
        await expect_routes(admin, "n1", "r1")
        await add_route(admin, "r2", 2)
        await expect_routes(admin, "n1", "r1", "r2")
        spec = (await admin.get(NODE_OVERLAY_IPS, "n1"))["spec"]
        assert (spec["routes"], spec["omitted"]) == (EARLIER, ["r9"]), "its agent has not been replaced yet"
        await report_all(admin)

        async def replaced() -> bool:
            found = (await admin.get(NODE_OVERLAY_IPS, "n1"))["spec"]
            return not {"routes", "generations", "omitted"} & found.keys()

        await eventually(replaced, "what the earlier version wrote is removed")
        await expect_routes(admin, "n1", "r1", "r2")


async def test_a_set_that_no_node_needs_is_given_up_with_its_rollout(admin: KubeApi, api_server: ApiServer) -> None:
    rollout = {"rollout": {"maxUnavailable": 1}}
    await add_route(admin, "r1", 1, **rollout)
    async with controller(api_server, overlay_addresses="false"):
        await join(admin, "n1")
        await expect_routes(admin, "n1", "r1")
        await report_all(admin)
        (first,) = await named_sets(admin, "n1")
        await admin.merge_patch(STATIC_ROUTES, "r1", {"spec": {"metric": 7}})

        async def moved() -> bool:
            await report_all(admin)
            named = await named_sets(admin, "n1")
            return len(named) == 1 and named != [first]

        await eventually(moved, "the node names the set of the next revision alone")
        assert (await node_routes(admin, "n1"))[0]["metric"] == 7
        await admin.merge_patch(STATIC_ROUTES, "r1", {"spec": {"rollout": None}})

        async def shared() -> bool:
            await report_all(admin)
            return [each.startswith("rs-") for each in await named_sets(admin, "n1")] == [True]

        await eventually(shared, "the node names the set of all StaticRoutes with this selector")
        await expect_routes(admin, "n1", "r1")
