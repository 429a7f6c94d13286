"""Gateways that fail and recover: traffic, kernel routes, and the status of the StaticRoute."""

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from lab.net import vlan
from lab.net.namespaces import Namespace
from lab.net.traffic import Stream, Unreachable, observed_source
from lab.net.vlan import Node
from lab.processes import wait_until
from lab.scenario.lab import ROUTE
from lab.scenario.process_lab import ProcessLab
from overlay_net.model.names import STATIC_ROUTES

NAME = vlan.NODE_NAMES[0]
FIRST, SECOND = vlan.OVERLAY_GATEWAY, "192.168.100.253"
RETURN_PATHS = {FIRST: "gateway", SECOND: "gateway-2"}
CHECK = {"type": "arp", "intervalMilliseconds": 200, "failureThreshold": 3, "successThreshold": 2}
RECOVERY = 90.0
"""Seconds; a gateway that failed repeatedly is held down for a while."""


class Edge:
    """Two gateways at the edge of the VLAN, and one node behind them."""

    def __init__(self, lab: ProcessLab) -> None:
        self.lab = lab
        self.gateways: dict[str, Namespace] = {
            FIRST: lab.vlan.gateway,
            SECOND: lab.vlan.add_gateway("gateway-2", SECOND),
        }

    @property
    def node(self) -> Node:
        return self.lab.first_node

    def route_through(self, *gateways: tuple[str, int], **more: Any) -> None:
        """Apply a StaticRoute with these (gateway, priority) and wait until it is in place."""
        listed = [{"address": address, "priority": priority} for address, priority in gateways]
        self.lab.apply_route(gateways=listed, healthCheck=CHECK, **more)
        self.lab.wait_route(1)

    def fail(self, gateway: str) -> None:
        self.gateways[gateway].ip("link", "set", "inner", "down")

    def recover(self, gateway: str) -> None:
        self.gateways[gateway].ip("link", "set", "inner", "up")

    def hops(self) -> set[str]:
        """The gateways of the kernel's route; empty without a route."""
        found = json.loads(self.node.ip("-j", "route", "show", vlan.ON_PREMISE_SUBNET))
        return {hop["gateway"] for route in found for hop in route.get("nexthops", [route]) if "gateway" in hop}

    def kind(self) -> str:
        """``unicast`` or ``unreachable``; an empty text without a route."""
        found = json.loads(self.node.ip("-j", "-d", "route", "show", vlan.ON_PREMISE_SUBNET))
        return str(found[0].get("type", "unicast")) if found else ""

    def used(self) -> str:
        """The gateway that the kernel uses to the on-premise host."""
        # With several gateways the kernel chooses one by source and destination.
        source = self.lab.addresses()[NAME]
        words = self.node.ip("route", "get", vlan.ON_PREMISE_HOST, "from", source).split()
        return words[words.index("via") + 1]

    def answer_through(self, gateway: str) -> None:
        self.lab.vlan.set_return_path(RETURN_PATHS[gateway])

    def wait_event(self, reason: str, gateway: str) -> None:
        def reported() -> bool:
            lines = self.lab.api_server.kubectl("get", "events", "-n", "default").splitlines()
            return any(reason in line and f"nodeoverlayip/{NAME} " in line and gateway in line for line in lines)

        wait_until(reported, f"an event {reason} names {gateway}")

    def reachable(self) -> tuple[str, str]:
        """Status and message of the StaticRoute's GatewayReachable."""
        conditions = self.lab.api_server.read(STATIC_ROUTES, ROUTE).get("status", {}).get("conditions", [])
        found = {each["type"]: each for each in conditions}.get("GatewayReachable", {})
        return found.get("status", ""), found.get("message", "")

    def wait_down(self, *gateways: str) -> None:
        """Wait until the StaticRoute reports these gateways, and no others, as down on this node."""

        def reported() -> bool:
            status, message = self.reachable()
            down = {address for address in self.gateways if f"{address} on 1 node ({NAME})" in message}
            return status == ("False" if gateways else "True") and down == set(gateways)

        wait_until(reported, f"GatewayReachable names {gateways or 'no gateway'}", timeout=RECOVERY)


@pytest.fixture
def edge(lab: ProcessLab) -> Edge:
    lab.build((NAME,))
    lab.start()
    lab.register_nodes((NAME,))
    return Edge(lab)


@pytest.mark.parametrize(
    "priorities", [pytest.param((0, 0), id="both carry traffic"), pytest.param((0, 1), id="the second is standby")]
)
def test_traffic_moves_to_the_other_gateway_when_the_one_in_use_fails(edge: Edge, priorities: tuple[int, int]) -> None:
    edge.route_through(*zip((FIRST, SECOND), priorities, strict=True))
    desired = {gateway for gateway, priority in zip((FIRST, SECOND), priorities, strict=True) if priority == 0}
    assert edge.hops() == desired
    edge.wait_down()
    used = edge.used()
    (other,) = {FIRST, SECOND} - {used}
    edge.answer_through(used)
    during = Stream(edge.node, vlan.ON_PREMISE_HOST)
    edge.fail(used)
    edge.answer_through(other)
    wait_until(lambda: edge.hops() == {other}, f"the route uses only {other}")
    count = during.stop()
    assert 0 < count.lost < count.sent, "some packets are lost before the route moves, but not all"
    expect_no_loss(edge)
    edge.wait_down(used)
    edge.wait_event("GatewayDown", used)
    assert edge.lab.is_ready(NAME), "the node is Ready with a route through the other gateway"
    expect_no_loss_while_agent_restarts(edge)
    edge.recover(used)
    edge.wait_down()
    edge.wait_event("GatewayUp", used)
    wait_until(lambda: edge.hops() == desired, "the original route is restored")
    edge.answer_through(edge.used())
    expect_no_loss(edge)


def expect_no_loss(edge: Edge) -> None:
    address = edge.lab.addresses()[NAME]
    stream = Stream(edge.node, vlan.ON_PREMISE_HOST)
    sources = [observed_source(edge.node, vlan.ON_PREMISE_HOST) for _ in range(3)]
    assert stream.stop().lost == 0
    assert sources == [address] * 3


def expect_no_loss_while_agent_restarts(edge: Edge) -> None:
    """Killed and terminated, while a gateway is down."""
    agent = edge.lab.product.agents[NAME]
    for number in (signal.SIGKILL, signal.SIGTERM):
        agent.log.unlink()
        stream = Stream(edge.node, vlan.ON_PREMISE_HOST)
        agent.send(number)
        agent.wait(timeout=10)
        agent.start()
        wait_until(lambda: "gateway is down" in agent.log.read_text(), f"after {number.name} the agent knows it again")
        assert stream.stop().lost == 0


def _kept(edge: Edge) -> bool:
    return edge.kind() == "unicast" and edge.hops() == {FIRST}


def _withdrawn(edge: Edge) -> bool:
    # The node's own default route remains.
    return edge.kind() == "" and edge.used() == vlan.PRIVATE_GATEWAY


def _unreachable(edge: Edge) -> bool:
    return edge.kind() == "unreachable"


@pytest.mark.parametrize(
    ("choice", "as_chosen"), [("keep", _kept), ("withdraw", _withdrawn), ("unreachable", _unreachable)]
)
def test_when_all_gateways_are_down_the_kernel_route_follows_on_all_down(
    edge: Edge, choice: str, as_chosen: Callable[[Edge], bool]
) -> None:
    edge.route_through((FIRST, 0), (SECOND, 1), onAllDown=choice)
    assert edge.hops() == {FIRST}
    edge.answer_through(FIRST)
    assert observed_source(edge.node, vlan.ON_PREMISE_HOST) == edge.lab.addresses()[NAME]
    edge.fail(FIRST)
    edge.fail(SECOND)
    edge.wait_down(FIRST, SECOND)
    wait_until(lambda: as_chosen(edge), f"the kernel route is as onAllDown={choice} specifies")
    with pytest.raises(Unreachable):
        observed_source(edge.node, vlan.ON_PREMISE_HOST, timeout=0.5)
    edge.recover(FIRST)
    edge.recover(SECOND)
    edge.wait_down()
    wait_until(lambda: edge.hops() == {FIRST} and edge.kind() == "unicast", "the original route is restored")
    assert observed_source(edge.node, vlan.ON_PREMISE_HOST) == edge.lab.addresses()[NAME]
    assert edge.lab.is_ready(NAME)
