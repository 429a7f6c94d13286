"""Restarts, an API outage, a broken link and a dead node, on a lab whose nodes have their address and route."""

import functools
import itertools
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from lab.manifests import static_route
from lab.net import vlan
from lab.net.traffic import Stream, observed_source
from lab.processes import Process, wait_until
from lab.scenario.lab import ROUTE
from lab.scenario.process_lab import ProcessLab
from overlay_net.model.names import NODE_OVERLAY_IPS, OVERLAY_ROUTE_SLICES, STATIC_ROUTES

LISTEN = "import socket, time; listener = socket.create_server(('', 9477)); time.sleep(300)"
NODES = vlan.NODE_NAMES
UNUSED_SUBNET = "192.168.7.0/24"


@pytest.fixture
def running(lab: ProcessLab) -> ProcessLab:
    lab.build()
    lab.start()
    lab.register_nodes(NODES)
    lab.create_route()
    return lab


def test_no_packet_is_lost_when_agent_and_controller_restart(running: ProcessLab) -> None:
    node = running.first_node
    stream = Stream(node, vlan.ON_PREMISE_HOST)
    agent, controller = running.product.agents[node.name], running.product.controller
    assert controller is not None
    for process in (agent, controller):
        process.restart()
        _wait_ready(running, process)
    agent.terminate()
    agent.start()
    _wait_ready(running, agent)
    count = stream.stop()
    assert count.sent > 100
    assert count.lost == 0


def _wait_ready(lab: ProcessLab, process: Process) -> None:
    if process is lab.product.controller:
        lab.product.wait_controller()
    else:
        lab.product.wait_agent(lab.first_node)


def test_no_packet_is_lost_while_two_staticroutes_exchange_subnets_and_selectors(running: ProcessLab) -> None:
    node = running.first_node
    for name in NODES:
        running.api_server.kubectl("label", "node", name, "tier=edge")
    selectors: list[dict[str, Any]] = [{}, {"nodeSelector": {"matchLabels": {"tier": "edge"}}}]
    names = [ROUTE, "other"]
    running.api_server.apply(static_route("other", subnet=UNUSED_SUBNET, **selectors[1]))
    _wait_applied(running, names)
    stream, monitor = Stream(node, vlan.ON_PREMISE_HOST), node.popen("ip", "monitor", "route")
    for _ in range(6):
        names.reverse()
        selectors.reverse()
        taker, giver = names
        running.api_server.apply(
            static_route(taker, subnets=[UNUSED_SUBNET, vlan.ON_PREMISE_SUBNET], **selectors[0]),
            static_route(giver, subnet=UNUSED_SUBNET, **selectors[1]),
            static_route(taker, subnet=vlan.ON_PREMISE_SUBNET, **selectors[0]),
        )
        _wait_applied(running, names)
    count = stream.stop()
    monitor.terminate()
    changes, _ = monitor.communicate(timeout=30)
    assert f"Deleted {vlan.ON_PREMISE_SUBNET}" not in changes
    assert count.lost == 0

    def released() -> bool:
        return not any("retained" in each["spec"] for each in running.api_server.read_all(OVERLAY_ROUTE_SLICES))

    wait_until(released, "nothing is retained any more")


def _wait_applied(lab: ProcessLab, static_routes: Iterable[str]) -> None:
    """Wait until the StaticRoutes are in place on every node as they are specified."""

    def is_applied(name: str) -> bool:
        route = lab.api_server.read(STATIC_ROUTES, name)
        status = route.get("status", {})
        return (status.get("ready"), status.get("observedGeneration")) == (len(NODES), route["metadata"]["generation"])

    for name in static_routes:
        wait_until(functools.partial(is_applied, name), f"StaticRoute {name} is in place on every node")


def test_an_api_outage_changes_nothing_in_the_kernel(running: ProcessLab) -> None:
    node = running.first_node
    stream = Stream(node, vlan.ON_PREMISE_HOST)
    running.api_server.kube_apiserver.kill9()
    agent = running.product.agents[node.name]
    # Without the API a running agent repairs what it knows, and an agent that starts leaves the kernel unchanged.
    node.ip("route", "delete", vlan.ON_PREMISE_SUBNET)
    wait_until(lambda: bool(node.ip("route", "show", vlan.ON_PREMISE_SUBNET)), "the route is repaired without the API")
    agent.restart()
    other = list(running.nodes.values())[1]
    running.product.agents[other.name].kill9()
    running.api_server.kube_apiserver.start()
    running.api_server.wait_ready()
    running.product.wait_agent(node)
    assert node.ip("route", "show", vlan.ON_PREMISE_SUBNET)
    assert other.ip("route", "show", vlan.ON_PREMISE_SUBNET)
    count = stream.stop()
    assert count.received > 0
    assert observed_source(node, vlan.ON_PREMISE_HOST) == running.addresses()[node.name]


def test_link_address_and_route_are_restored_after_the_link_went_down_or_was_deleted(running: ProcessLab) -> None:
    node = running.first_node
    address = running.addresses()[node.name]
    for damage in (
        ("link", "set", "tmp0", "down"),
        ("link", "delete", "tmp0"),
        ("address", "flush", "dev", "tmp0"),
        ("link", "set", "eth0", "down"),
    ):
        node.ip(*damage)
        if "eth0" in damage:
            node.ip("link", "set", "eth0", "up")
            node.ip("route", "replace", "10.0.0.0/8", "via", vlan.PRIVATE_GATEWAY)

        def restored() -> bool:
            return f"src {address}" in node.ip("route", "show", vlan.ON_PREMISE_SUBNET)

        wait_until(restored, f"the route is restored after `ip {' '.join(damage)}`")
        assert observed_source(node, vlan.ON_PREMISE_HOST) == address


def test_an_agent_whose_metrics_port_is_taken_serves_the_data_plane_and_reports_it(running: ProcessLab) -> None:
    node = running.first_node
    agent = running.product.agents[node.name]
    agent.kill9()
    taken = node.popen(sys.executable, "-c", LISTEN)
    agent.start()

    def reported() -> str:
        conditions = running.api_server.read(NODE_OVERLAY_IPS, node.name)["status"]["conditions"]
        return next((each["message"] for each in conditions if each["type"] == "MetricsServed"), "")

    wait_until(lambda: "cannot listen on ':9477'" in reported(), "the taken port is reported")
    node.ip("route", "delete", vlan.ON_PREMISE_SUBNET)
    wait_until(lambda: bool(node.ip("route", "show", vlan.ON_PREMISE_SUBNET)), "the route is repaired")
    taken.kill()
    taken.communicate()
    running.product.wait_agent(node)
    wait_until(lambda: not reported(), "the condition is removed")


def test_the_address_of_a_dead_node_is_free_for_another_after_the_fence_time(running: ProcessLab) -> None:
    """After a power failure no agent ever confirms that the address is unused."""
    name = NODES[0]
    address = running.addresses()[name]
    running.product.agents[name].kill9()
    running.vlan.remove_node(name)
    running.api_server.kubectl("delete", "node", name)
    wait_until(lambda: address not in running.reserved(), "the address is free after the fence time")
    newcomer = "10.176.162.154"
    running.product.start_agent(running.vlan.add_node(newcomer))
    running.register_nodes([newcomer])
    assert running.addresses()[newcomer] == address, "the lowest free address is the released one"
    running.vlan.gateway.ip("neighbour", "flush", "all")
    assert observed_source(running.nodes[newcomer], vlan.ON_PREMISE_HOST) == address


def test_only_the_overlay_link_answers_arp_for_the_overlay_address(running: ProcessLab) -> None:
    """By default Linux answers for an address on a macvlan on its parent too (ARP flux)."""
    node = running.first_node
    address = running.addresses()[node.name]
    running.vlan.gateway.ip("neighbour", "flush", "all")
    mac = _mac(node.ip("-o", "link", "show", "tmp0"))
    for _ in range(5):
        running.vlan.gateway.ip("neighbour", "flush", "all")
        assert observed_source(node, vlan.ON_PREMISE_HOST) == address
        neighbours = running.vlan.gateway.ip("neighbour", "show", address)
        assert mac in neighbours, f"tmp0 has {mac}, the gateway learnt {neighbours}"


def _mac(line: str) -> str:
    words = line.split()
    return dict(itertools.pairwise(words))["link/ether"]
