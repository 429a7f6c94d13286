"""StaticRoutes through the controller: what nodes are told, what is refused, and what the object then says."""

from typing import Any

from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.errors import NotFound
from overlay_net.model.ipam import QUARANTINE
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_ADDRESSES, STATIC_ROUTES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.test_controller import add_pool, addresses, agent_reports, create, have_addresses, join, records


async def condition(api: KubeApi, name: str, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of a StaticRoute's condition; empty while there is none."""
    found = (await api.get(STATIC_ROUTES, name)).get("status", {}).get("conditions", [])
    for each in found:
        if each["type"] == kind:
            return each["status"], each["reason"], each["message"]
    return "", "", ""


async def parse_routes(api: KubeApi, node: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = (await api.get(NODE_OVERLAY_IPS, node))["spec"].get("routes", [])
    except NotFound:
        return []
    return found


async def test_protected_subnets_are_refused_by_name_and_let_go_when_nothing_is_there(
    admin: KubeApi, api_server: ApiServer
) -> None:
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

        await eventually(decided, "every StaticRoute says whether it is accepted")
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
            return [each["staticRoute"] for each in await parse_routes(admin, "n1")] == ["fine"]

        await eventually(routed, "the node has the one that is accepted, and no other")
        await admin.delete(NODES, "n2")

        async def allowed() -> bool:
            return "node" in {each["staticRoute"] for each in await parse_routes(admin, "n1")}

        await eventually(allowed, "the route is there once no node has an address in its subnet")


async def test_weights_standbys_tables_and_checks_reach_the_node_as_they_are(
    admin: KubeApi, api_server: ApiServer
) -> None:
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

        async def told() -> bool:
            return len(await parse_routes(admin, "n1")) == 2

        await eventually(told, "the node's object has both routes")
    first, second = await parse_routes(admin, "n1")
    assert first == {"subnet": "10.5.0.0/16", "staticRoute": "r1", **spec, "healthCheck": check}
    assert second == {"subnet": "10.6.0.0/16", "staticRoute": "r2", "type": "blackhole"}


async def test_a_gateway_that_is_silent_on_a_node_is_a_condition_of_the_route(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, "n1", "n2")
    await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.5.0.0/16"})
    async with controller(api_server):
        await have_addresses(admin, 2)
        silent = [{"address": "192.168.100.1", "message": "no answer to ARP", "since": "2026-01-01T00:00:00Z"}]
        await agent_reports(admin, "n2", observedGeneration=99, gateways=silent)

        async def said() -> bool:
            status, reason, message = await condition(admin, "r1", "GatewayReachable")
            return (status, reason) == ("False", "GatewayDown") and "192.168.100.1 on 1 node (n2)" in message

        await eventually(said, "the StaticRoute says which gateway is silent, and where")
        await agent_reports(admin, "n2", observedGeneration=99, gateways=[])

        async def well() -> bool:
            return (await condition(admin, "r1", "GatewayReachable"))[0] == "True"

        await eventually(well, "and that it answers again")


async def test_an_address_in_use_by_something_unknown_is_quarantined_and_released_in_the_end(
    admin: KubeApi, api_server: ApiServer
) -> None:
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
        assert address not in (await addresses(admin)).values(), "nobody gets it meanwhile"

        async def announced() -> bool:
            return "AddressQuarantined" in api_server.kubectl("get", "events", "-n", "default")

        await eventually(announced, "an event says so")
        await admin.merge_patch(OVERLAY_ADDRESSES, address, {"spec": {"nodeUID": "2026-01-01T00:00:00Z"}})

        async def released() -> bool:
            return address not in await records(admin)

        await eventually(released, "when its time is over the address is free again")
