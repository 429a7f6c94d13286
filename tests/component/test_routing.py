"""StaticRoutes through the controller: the routes of nodes, rejected subnets, and conditions."""

from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.ipam import QUARANTINE
from overlay_net.model.names import NODES, OVERLAY_ADDRESSES, STATIC_ROUTES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.slices import node_routes
from tests.component.test_controller import (
    add_pool,
    addresses,
    agent_condition,
    agent_reports,
    create,
    have_addresses,
    join,
    records,
)


async def condition(api: KubeApi, name: str, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition of a StaticRoute; empty if there is none."""
    found = (await api.get(STATIC_ROUTES, name)).get("status", {}).get("conditions", [])
    for each in found:
        if each["type"] == kind:
            return each["status"], each["reason"], each["message"]
    return "", "", ""


async def test_protected_subnets_are_rejected_until_no_node_uses_them(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    status = {"addresses": [{"type": "InternalIP", "address": "10.55.0.7"}]}
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}, "status": status}
    await admin.create(NODES, node_manifest("n2"))
    await admin.apply(NODES, "n2", body, field_manager="kubelet", subresource="status")
    for name, subnet in (
        ("node", "10.55.0.0/24"),
        ("service", "10.96.0.0/24"),
        ("default", "0.0.0.0/0"),
        ("configured", "10.77.1.0/24"),
        ("fine", "10.5.0.0/16"),
    ):
        await create(admin, STATIC_ROUTES, name, {"subnet": subnet})
    async with controller(api_server, protected_subnets='["10.77.0.0/16"]'):
        await have_addresses(admin, 2)

        async def decided() -> bool:
            return all([(await condition(admin, name, "Accepted"))[0] for name in ("node", "service", "fine")])

        await eventually(decided, "every StaticRoute has the condition Accepted")
        assert (await condition(admin, "fine", "Accepted"))[0] == "True"
        for name, part in (
            ("node", "10.55.0.7/32 (address of node n2)"),
            ("service", "services"),
            ("default", "default route"),
            ("configured", "protected_subnets"),
        ):
            status_, reason, message = await condition(admin, name, "Accepted")
            assert (status_, reason) == ("False", "Protected"), name
            assert part in message

        async def routed() -> bool:
            return [each["staticRoute"] for each in await node_routes(admin, "n1")] == ["fine"]

        await eventually(routed, "the node has the accepted route only")
        await admin.delete(NODES, "n2")

        async def allowed() -> bool:
            return "node" in {each["staticRoute"] for each in await node_routes(admin, "n1")}

        await eventually(allowed, "the route is added once no node has an address in its subnet")


async def test_all_fields_of_a_route_are_copied_to_the_node(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    spec = {
        "gateways": [{"address": "192.168.100.1", "weight": 3}, {"address": "192.168.100.254", "priority": 1}],
        "table": 100,
        "mtu": 1400,
        "onAllDown": "unreachable",
    }
    check = {"type": "tcp", "port": 179, "intervalMilliseconds": 500, "failureThreshold": 3, "successThreshold": 2}
    await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.5.0.0/16", **spec, "healthCheck": check})
    await create(admin, STATIC_ROUTES, "r2", {"subnet": "10.6.0.0/16", "type": "blackhole"})
    async with controller(api_server):

        async def routed() -> bool:
            return len(await node_routes(admin, "n1")) == 2

        await eventually(routed, "the node has both routes")
    first, second = await node_routes(admin, "n1")
    assert first == {"subnet": "10.5.0.0/16", "staticRoute": "r1", **spec, "healthCheck": check}
    assert second == {"subnet": "10.6.0.0/16", "staticRoute": "r2", "type": "blackhole"}


async def test_a_gateway_that_is_down_on_a_node_is_reported_on_the_route(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1", "n2")
    await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.5.0.0/16"})
    async with controller(api_server):
        await have_addresses(admin, 2)
        silent = [{"address": "192.168.100.1", "message": "no answer to ARP", "since": "2026-01-01T00:00:00Z"}]
        await agent_reports(admin, "n2", observedGeneration=99, gateways=silent)

        async def down() -> bool:
            status, reason, message = await condition(admin, "r1", "GatewayReachable")
            return (status, reason) == ("False", "GatewayDown") and "192.168.100.1 on 1 node (n2)" in message

        await eventually(down, "the StaticRoute reports which gateway is down, and where")
        answers = agent_condition("GatewayReachable", "True", "Reachable")
        await agent_reports(admin, "n2", observedGeneration=99, gateways=[], conditions=[answers])

        async def up() -> bool:
            return (await condition(admin, "r1", "GatewayReachable"))[0] == "True"

        await eventually(up, "the StaticRoute reports that the gateway answers again")


async def test_an_address_conflict_quarantines_the_address_for_a_while(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    async with controller(api_server, audit_interval="100ms"):
        await have_addresses(admin, 1)
        address = (await addresses(admin))["n1"]
        await agent_reports(admin, "n1", observedGeneration=99, conflictingIpAddr=address)

        async def moved() -> bool:
            return (await addresses(admin)).get("n1") not in (None, address)

        await eventually(moved, "the node gets another address")
        assert (await records(admin))[address] == QUARANTINE
        await join(admin, "n2")
        await have_addresses(admin, 2)
        assert address not in (await addresses(admin)).values(), "it is not assigned meanwhile"

        async def announced() -> bool:
            return "AddressQuarantined" in api_server.kubectl("get", "events", "-n", "default")

        await eventually(announced, "an event reports the quarantine")
        await admin.delete(OVERLAY_ADDRESSES, address)
        await join(admin, "n3")
        await have_addresses(admin, 3)
        assert address in (await addresses(admin)).values(), "a person has ended the quarantine"
