"""The controller against a real API server, with its own service account: assertions on the final state."""

import asyncio
import contextlib
from typing import Any

from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import NotFound
from overlay_net.model.names import (
    AGENT_FIELD_MANAGER,
    FINALIZER,
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_ADDRESSES,
    OVERLAY_POOLS,
    STATIC_ROUTES,
    Resource,
)
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.slices import node_routes, observed_slices


async def create(api: KubeApi, resource: Resource, name: str, spec: JsonObject, **metadata: Any) -> JsonObject:
    return await api.create(resource, resource.manifest(name, **metadata, spec=spec))


async def add_pool(api: KubeApi, name: str = "p1", cidr: str = "192.168.100.0/24", **spec: Any) -> None:
    gateway = cidr.rsplit(".", 1)[0] + ".1"
    await create(api, OVERLAY_POOLS, name, {"cidr": cidr, "gateway": gateway, **spec})


async def join(api: KubeApi, *names: str) -> None:
    await asyncio.gather(*(api.create(NODES, node_manifest(name)) for name in names))


async def addresses(api: KubeApi) -> dict[str, str]:
    """Node -> address, of the nodes that have one."""
    listing = await api.list(NODE_OVERLAY_IPS)
    shown = {item["metadata"]["name"]: item.get("status", {}).get("ipAddr", "") for item in listing.items}
    return {name: text.split("/")[0] for name, text in shown.items() if text}


async def records(api: KubeApi) -> dict[str, str]:
    """Reserved address -> node."""
    listing = await api.list(OVERLAY_ADDRESSES)
    return {item["spec"]["address"]: item["spec"]["node"] for item in listing.items}


async def reason(api: KubeApi, name: str) -> str:
    """The reason of the condition Reserved; empty while there is none, or no object."""
    try:
        item = await api.get(NODE_OVERLAY_IPS, name)
    except NotFound:
        return ""
    found = [each for each in item.get("status", {}).get("conditions", []) if each["type"] == "Reserved"]
    return str(found[0]["reason"]) if found else ""


async def have_addresses(api: KubeApi, count: int) -> None:
    async def all_there() -> bool:
        return len(await addresses(api)) == count

    await eventually(all_there, f"{count} nodes have an address")


async def consistent(api: KubeApi) -> None:
    """Every address has one record, of its node, and there is no other record."""
    shown = await addresses(api)
    assert {address: node for node, address in shown.items()} == await records(api)
    assert len(set(shown.values())) == len(shown)


async def agent_reports(api: KubeApi, name: str, **status: Any) -> None:
    """Write what the agent of a node would write, with the slices that it reads if the report is about a spec."""
    if "observedGeneration" in status:
        status = {"observedSlices": await observed_slices(api, name), **status}
    body = NODE_OVERLAY_IPS.manifest(name, status=status)
    await api.apply(NODE_OVERLAY_IPS, name, body, field_manager=AGENT_FIELD_MANAGER, subresource="status")


def agent_condition(kind: str, status: str, reason: str) -> dict[str, str]:
    """A condition as an agent writes it."""
    since = "2026-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": since}


async def all_agents_use_their_address(api: KubeApi) -> None:
    """Every node's agent configures the address that its object shows, and reports it."""
    for item in (await api.list(NODE_OVERLAY_IPS)).items:
        status, metadata = item.get("status", {}), item["metadata"]
        if "deletionTimestamp" not in metadata and status.get("ipAddr") != status.get("configuredIpAddr"):
            report = {"configuredIpAddr": status["ipAddr"], "observedGeneration": metadata["generation"]}
            with contextlib.suppress(NotFound):
                # An agent has nothing to report once its object is gone.
                await agent_reports(api, metadata["name"], **report)


NAMES = [f"node-{number:03}" for number in range(100)]


async def test_a_hundred_nodes_that_join_and_leave_together_reserve_and_release_their_addresses(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    async with controller(api_server):
        await join(admin, *NAMES)
        await have_addresses(admin, 100)
        await consistent(admin)
        await asyncio.gather(*(admin.delete(NODES, name) for name in NAMES))

        async def nothing_left() -> bool:
            return not await records(admin) and not (await admin.list(NODE_OVERLAY_IPS)).items

        await eventually(nothing_left, "every address is released")


async def test_concurrent_controllers_reserve_one_address_for_each_node(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    async with controller(api_server), controller(api_server):
        await join(admin, *NAMES[:40])
        await have_addresses(admin, 40)

        async def one_each() -> bool:
            await all_agents_use_their_address(admin)
            return sorted((await records(admin)).values()) == NAMES[:40]

        await eventually(one_each, "each node has one record")
    await consistent(admin)


async def test_a_controller_that_is_killed_repeatedly_reaches_the_same_state(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, *NAMES[:30])
    for enough in (1, 5, 12, 20):

        async def some(enough: int = enough) -> bool:
            return len(await records(admin)) >= enough

        async with controller(api_server):
            await eventually(some, f"{enough} addresses are reserved")
    async with controller(api_server):
        await have_addresses(admin, 30)
    await consistent(admin)


async def test_a_full_pool_is_reported_and_the_waiting_node_gets_the_next_free_address(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin, "small", "10.1.0.0/29")
    async with controller(api_server):
        await join(admin, *NAMES[:6])
        await have_addresses(admin, 5)

        async def one_waits() -> bool:
            return [await reason(admin, name) for name in NAMES[:6]].count("Exhausted") == 1

        await eventually(one_waits, "the condition of one node is Exhausted")

        async def announced() -> bool:
            return "Exhausted" in api_server.kubectl("get", "events", "-n", "default")

        await eventually(announced, "there is an event as well")

        async def pool_is_counted() -> bool:
            status = (await admin.get(OVERLAY_POOLS, "small")).get("status", {})
            return (status.get("used"), status.get("free"), status.get("total")) == (5, 0, 5)

        await eventually(pool_is_counted, "the pool's status has the counts")
        served = await addresses(admin)
        (waiting,) = set(NAMES[:6]) - set(served)
        await admin.delete(NODES, min(served))

        async def served_now() -> bool:
            return waiting in await addresses(admin)

        await eventually(served_now, "the waiting node gets the released address")


async def test_a_deleted_nodes_address_is_released_after_its_agent_removed_it(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    async with controller(api_server, fence_after="1h"):
        await join(admin, "n1", "n2")
        await have_addresses(admin, 2)
        address = (await addresses(admin))["n1"]
        await agent_reports(admin, "n1", configuredIpAddr=f"{address}/24", observedGeneration=99)
        await admin.delete(NODES, "n1")

        async def deleting() -> bool:
            return "deletionTimestamp" in (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]

        await eventually(deleting, "the object of the deleted node is being deleted")
        # Once the second node is handled, the controller has had time for the first one.
        await agent_reports(admin, "n2", observedGeneration=1)
        assert address in await records(admin)
        generation = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["generation"]
        released = agent_condition("Configured", "False", "Released")
        await agent_reports(admin, "n1", observedGeneration=generation - 1, conditions=[released])
        assert address in await records(admin), "the report is about the generation before the deletion"
        await agent_reports(admin, "n1", observedGeneration=generation, conditions=[released])

        async def free() -> bool:
            return address not in await records(admin) and "n1" not in await addresses(admin)

        await eventually(free, "the address is free")


async def test_a_reloaded_node_gets_its_address_back(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    async with controller(api_server, release_after="1h"):
        await join(admin, "n0", "n1")
        await have_addresses(admin, 2)
        before = await addresses(admin)
        await admin.delete(NODES, "n1")

        async def noticed() -> bool:
            return "nodeGoneSince" in (await admin.get(NODE_OVERLAY_IPS, "n1")).get("status", {})

        await eventually(noticed, "the object shows since when its node is gone")
        await join(admin, "n1")
        uid = (await admin.get(NODES, "n1"))["metadata"]["uid"]

        async def renewed() -> bool:
            status = (await admin.get(NODE_OVERLAY_IPS, "n1"))["status"]
            return status.get("nodeUID") == uid and "nodeGoneSince" not in status

        await eventually(renewed, "the reservation has the owner tag of the new node")
        assert await addresses(admin) == before


async def test_finalizers_and_labels_of_others_are_kept(admin: KubeApi, api_server: ApiServer) -> None:
    """Objects as the earlier operator left them."""
    await add_pool(admin)
    finalizers = [FINALIZER, "example.com/theirs"]
    await create(admin, NODE_OVERLAY_IPS, "n1", {}, finalizers=finalizers, labels={"node": "n1", "mine": "too"})
    status = {"ipAddr": "192.168.100.44/24", "gateway": "192.168.100.1", "interface": "eth0", "interfaceLabel": "tmp0"}
    await agent_reports(admin, "n1", **status)
    await create(admin, STATIC_ROUTES, "r1", {"subnet": "192.168.0.0/24"}, finalizers=finalizers)
    await join(admin, "n1")
    async with controller(api_server):

        async def adopted() -> bool:
            return await records(admin) == {"192.168.100.44": "n1"}

        await eventually(adopted, "the address of the earlier operator is reserved for its node")
        await admin.delete(STATIC_ROUTES, "r1")
        await admin.delete(NODES, "n1")

        async def only_theirs() -> bool:
            objects = [await admin.get(STATIC_ROUTES, "r1"), await admin.get(NODE_OVERLAY_IPS, "n1")]
            return all(each["metadata"]["finalizers"] == ["example.com/theirs"] for each in objects)

        await eventually(only_theirs, "only our finalizer is removed")
        assert (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["labels"]["mine"] == "too"


async def test_the_audit_releases_orphaned_records_only(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    orphan = {"address": "192.168.100.200", "pool": "p1", "node": "ghost", "nodeUID": "x"}
    await create(admin, OVERLAY_ADDRESSES, "192.168.100.200", orphan)
    async with controller(api_server, audit_interval="100ms", audit_grace="200ms"):
        await have_addresses(admin, 1)

        async def orphan_released() -> bool:
            return list((await records(admin)).values()) == ["n1"]

        await eventually(orphan_released, "the orphan is released")
    await consistent(admin)


async def test_a_deleted_record_in_use_is_created_again(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1", "n2")
    async with controller(api_server):
        await have_addresses(admin, 2)
        before = await records(admin)
        uids = {item["metadata"]["uid"] for item in (await admin.list(OVERLAY_ADDRESSES)).items}
        for address in before:
            await admin.delete(OVERLAY_ADDRESSES, address)

        async def back() -> bool:
            listing = await admin.list(OVERLAY_ADDRESSES)
            new = not uids & {item["metadata"]["uid"] for item in listing.items}
            return new and await records(admin) == before

        await eventually(back, "the same addresses are reserved for the same nodes")


async def test_routes_reach_the_nodes_objects_and_reports_reach_the_status_of_the_route(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, "n1", "n2")
    async with controller(api_server):
        await have_addresses(admin, 2)
        await create(admin, STATIC_ROUTES, "r1", {"subnet": "192.168.0.0/24"})

        async def compiled() -> bool:
            requested = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "gateways": [{"address": "192.168.100.1"}]}
            return all([await node_routes(admin, name) == [requested] for name in ("n1", "n2")])

        await eventually(compiled, "each node has the route")
        for name, failures in (("n1", []), ("n2", [{"subnet": "192.168.0.0/24", "state": "X", "message": "why"}])):
            generation = (await admin.get(NODE_OVERLAY_IPS, name))["metadata"]["generation"]
            await agent_reports(
                admin, name, observedGeneration=generation, interfaceLabel="tmp0", interface="eth0", routes=failures
            )

        async def folded() -> bool:
            status = (await admin.get(STATIC_ROUTES, "r1")).get("status", {})
            return (status.get("desired"), status.get("ready"), status.get("failed")) == (2, 1, 1)

        await eventually(folded, "the StaticRoute's status has the counts")
        status = (await admin.get(STATIC_ROUTES, "r1"))["status"]
        assert [each["hostname"] for each in status["nodeStatus"]] == ["n2", "n1"], "failing nodes come first"
        assert status["nodeStatus"][1]["device"] == "tmp0"
