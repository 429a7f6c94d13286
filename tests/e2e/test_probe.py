"""A change of a StaticRoute that breaks connectivity is rolled back once, whichever process dies meanwhile."""

from typing import Any

import pytest

from lab.net import vlan
from lab.net.traffic import PORT, Stream, observed_source
from lab.net.vlan import Node
from lab.processes import Process, wait_until
from lab.scenario.lab import ROUTE
from lab.scenario.process_lab import ProcessLab
from overlay_net.model.names import NODE_OVERLAY_IPS, STATIC_ROUTES

NAME = vlan.NODE_NAMES[0]
GOOD, ALSO_GOOD, BLACK_HOLE = vlan.OVERLAY_GATEWAY, vlan.OTHER_OVERLAY_GATEWAY, "192.168.100.253"
PROBE = {"tcp": f"{vlan.ON_PREMISE_HOST}:{PORT}", "timeout": "3s"}
OTHER = "192.168.7.0/24"


class Edge:
    """One node with a working route, and a gateway that answers ARP but forwards nothing."""

    def __init__(self, lab: ProcessLab) -> None:
        self.lab = lab
        lab.vlan.add_gateway("black-hole", BLACK_HOLE).sysctl("net.ipv4.ip_forward", 0)
        spec = {"subnet": OTHER, "gateway": GOOD}
        other = {"apiVersion": "iks.ibm.com/v1alpha1", "kind": "StaticRoute", "metadata": {"name": "other"}}
        lab.api_server.apply(other | {"spec": spec})
        self.change(GOOD)
        lab.wait_route(1)

    @property
    def node(self) -> Node:
        return self.lab.nodes[NAME]

    @property
    def agent(self) -> Process:
        return self.lab.product.agents[NAME]

    def change(self, gateway: str) -> None:
        self.lab.apply_route(gateway=gateway, probe=PROBE)

    def is_routed_through(self, gateway: str, subnet: str = vlan.ON_PREMISE_SUBNET) -> bool:
        return f"via {gateway} " in self.node.ip("route", "show", subnet)

    def programmed(self) -> tuple[str, str, int]:
        """Reason, message and generation of the condition Programmed; empty and 0 until the controller sets it."""
        found = self.lab.api_server.read(STATIC_ROUTES, ROUTE).get("status", {}).get("conditions", [])
        condition: dict[str, Any] = next((each for each in found if each["type"] == "Programmed"), {})
        return condition.get("reason", ""), condition.get("message", ""), condition.get("observedGeneration", 0)

    def generation(self) -> int:
        return int(self.lab.api_server.read(STATIC_ROUTES, ROUTE)["metadata"]["generation"])

    def wait_rolled_back(self) -> str:
        desired = ("RolledBack", self.generation())
        wait_until(lambda: self.programmed()[::2] == desired, "the StaticRoute reports RolledBack")
        return self.programmed()[1]

    def rollbacks(self) -> int:
        return self.agent.log.read_text().count("route probe failed")

    def start_agent(self) -> None:
        """Start it without waiting for the API server; it appends to its log."""
        self.agent.start()

    def has_connectivity(self) -> bool:
        return observed_source(self.node, vlan.ON_PREMISE_HOST) == self.lab.addresses()[NAME]


@pytest.fixture
def edge(lab: ProcessLab) -> Edge:
    lab.build((NAME,))
    lab.product.fence_after = "10m"
    lab.start()
    lab.register_nodes((NAME,))
    return Edge(lab)


def overlay_status(edge: Edge) -> dict[str, Any]:
    return dict(edge.lab.api_server.read(NODE_OVERLAY_IPS, NAME)["status"])


def test_a_gateway_that_drops_packets_is_rolled_back_once_and_the_next_change_is_probed(edge: Edge) -> None:
    during = Stream(edge.node, vlan.ON_PREMISE_HOST)
    edge.change(BLACK_HOLE)
    message = edge.wait_rolled_back()
    assert f"{NAME}: tcp {vlan.ON_PREMISE_HOST}:{PORT} did not answer within 3 s" in message
    assert edge.is_routed_through(GOOD)
    assert edge.is_routed_through(GOOD, OTHER)
    count = during.stop()
    assert 0 < count.lost < count.sent
    assert count.longest_gap_ms < 6000, "longer than the probe"
    assert edge.has_connectivity()
    (probe,) = overlay_status(edge)["probes"]
    assert (probe["staticRoute"], probe["state"]) == (ROUTE, "RolledBack")
    assert [route["gateways"] for route in probe["routes"]] == [[{"address": GOOD}]]
    assert "RolledBack" in edge.lab.api_server.kubectl("get", "events", "-n", "default")
    # Neither a restarted agent nor a resync probes the same change again.
    after = Stream(edge.node, vlan.ON_PREMISE_HOST)
    edge.agent.kill9()
    edge.start_agent()
    edge.lab.product.wait_agent(edge.node)
    edge.node.ip("route", "delete", OTHER)
    wait_until(lambda: edge.is_routed_through(GOOD, OTHER), "the agent has resynced")
    assert after.stop().lost == 0
    assert edge.rollbacks() == 1
    edge.change(ALSO_GOOD)
    wait_until(lambda: edge.programmed()[::2] == ("Programmed", edge.generation()), "the next change is programmed")
    assert edge.is_routed_through(ALSO_GOOD)
    assert edge.has_connectivity()
    wait_until(lambda: "probes" not in overlay_status(edge), "the rollback is no longer reported")
    wait_until(lambda: edge.lab.is_ready(NAME), "the node is ready")


def test_an_agent_that_dies_after_the_change_probes_it_after_its_restart_without_the_api(edge: Edge) -> None:
    edge.change(BLACK_HOLE)
    wait_until(lambda: edge.is_routed_through(BLACK_HOLE), "the kernel has the change", every=0.01)
    edge.agent.kill9()
    edge.lab.api_server.kube_apiserver.kill9()
    assert edge.is_routed_through(BLACK_HOLE)
    assert edge.rollbacks() == 0
    edge.start_agent()
    wait_until(lambda: edge.is_routed_through(GOOD), "the node rolled back", timeout=30)
    assert edge.is_routed_through(GOOD, OTHER)
    # The result is in the checkpoint, although it was never reported to the API server.
    edge.agent.kill9()
    edge.node.ip("route", "delete", vlan.ON_PREMISE_SUBNET)
    edge.start_agent()
    wait_until(lambda: edge.is_routed_through(GOOD), "the previous route is restored", timeout=30)
    assert edge.rollbacks() == 1
    edge.lab.api_server.kube_apiserver.start()
    edge.lab.api_server.wait_ready()
    # A new controller connects at once, without the backoff of the old one.
    assert edge.lab.product.controller is not None
    edge.lab.product.controller.kill9()
    edge.lab.product.start_controller()
    edge.wait_rolled_back()
    assert edge.is_routed_through(GOOD)
    assert edge.rollbacks() == 1
    assert edge.has_connectivity()


def test_a_new_route_whose_target_does_not_respond_is_withdrawn(edge: Edge) -> None:
    edge.lab.api_server.kubectl("delete", "staticroute", ROUTE)
    edge.lab.wait_no_route(edge.node)
    edge.change(BLACK_HOLE)
    assert "withdrawn" in edge.wait_rolled_back()
    edge.lab.wait_no_route(edge.node)
    assert edge.is_routed_through(GOOD, OTHER)
