"""Simulated agents end with the routes that the rule gives, and what they report is counted."""

import asyncio

from lab.agents.agent import SimulatedAgent
from lab.agents.fleet import Fleet, open_fleet
from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest, static_route
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODES, STATIC_ROUTES
from overlay_net.model.parse import find_object
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.test_controller import add_pool

NAMES = [f"simulated-{number}" for number in range(20)]
ZONES = {name: ("dal10", "dal12")[number % 2] for number, name in enumerate(NAMES)}


def zone(name: str) -> dict[str, object]:
    return {"matchLabels": {"topology.kubernetes.io/zone": name}}


async def have(fleet: Fleet, expected: dict[str, set[tuple[str, str, str]]]) -> None:
    """Wait until the agents of each zone have these routes: subnet, StaticRoute and gateway."""

    def has_them(agent: SimulatedAgent) -> bool:
        routes = {
            (str(each.subnet), each.static_route, str(gateway.address))
            for each in agent.routes
            for gateway in each.spec.gateways
        }
        report = agent.report
        in_place = report is not None and report.routes_ready == len(agent.routes)
        return in_place and routes == expected[ZONES[agent.name]]

    async with asyncio.timeout(60):
        await fleet.wait(has_them)


async def ready(api: KubeApi, name: str, nodes: int) -> None:
    async def counted() -> bool:
        return bool(find_object(await api.get(STATIC_ROUTES, name), "status").get("ready") == nodes)

    await eventually(counted, f"{name} is ready on {nodes} nodes")


async def test_simulated_agents_have_and_report_the_routes_of_their_nodes(
    admin: KubeApi, api_server: ApiServer
) -> None:
    everywhere = ("10.1.0.0/24", "everywhere", "192.168.100.1")
    one_zone = ("10.2.0.0/24", "one-zone", "192.168.100.1")
    own_gateway = ("10.3.0.0/24", "own-gateway", "192.168.100.9")
    async with controller(api_server), open_fleet(api_server.admin()) as fleet:
        await add_pool(admin)
        # Half of the agents start before their Nodes exist, as those of nodes that join.
        await fleet.start(NAMES[:10])
        await asyncio.gather(*(admin.create(NODES, node_manifest(name, ZONES[name])) for name in NAMES))
        await admin.create(STATIC_ROUTES, static_route("everywhere", subnet="10.1.0.0/24"))
        await admin.create(STATIC_ROUTES, static_route("one-zone", subnet="10.2.0.0/24", nodeSelector=zone("dal10")))
        await fleet.start(NAMES[10:])
        await have(fleet, {"dal10": {everywhere, one_zone}, "dal12": {everywhere}})
        await ready(admin, "everywhere", 20)
        await ready(admin, "one-zone", 10)

        # The older StaticRoute keeps the subnet in its zone; the other zone gets that of the newer one.
        await admin.create(STATIC_ROUTES, static_route("second", subnets=["10.2.0.0/24"], metric=0))
        await admin.create(STATIC_ROUTES, static_route("own-gateway", subnet="10.3.0.0/24", gateway="192.168.100.9"))
        second = ("10.2.0.0/24", "second", "192.168.100.1")
        await have(fleet, {"dal10": {everywhere, one_zone, own_gateway}, "dal12": {everywhere, second, own_gateway}})

        fleet.agents[NAMES[0]].fail({"own-gateway"})
        await ready(admin, "own-gateway", 19)
        fleet.agents[NAMES[0]].fail(set())
        await ready(admin, "own-gateway", 20)

        await admin.delete(STATIC_ROUTES, "one-zone")
        await admin.delete(STATIC_ROUTES, "everywhere")
        await have(fleet, {"dal10": {second, own_gateway}, "dal12": {second, own_gateway}})
