"""Traffic of nodes without overlay addresses, and disabling and enabling the addresses of an installation."""

import ipaddress

from lab.manifests import node_manifest
from lab.net import vlan
from lab.net.traffic import Unreachable, observed_source
from lab.processes import wait_until
from lab.product import condition_statuses
from lab.scenario.lab import ROUTE
from lab.scenario.process_lab import ProcessLab

FIRST, SECOND = vlan.NODE_NAMES[:2]
PRIVATE_SUBNET = str(ipaddress.ip_interface(f"{FIRST}/{vlan.PRIVATE_PREFIX}").network)


def begin(lab: ProcessLab) -> None:
    """Nodes with a route to 10.0.0.0/8 only, and an on-premise host with a route back to their private subnet."""
    lab.build((FIRST, SECOND))
    lab.vlan.on_premise.ip("route", "add", PRIVATE_SUBNET, "via", vlan.ON_PREMISE_GATEWAY)
    for node in lab.nodes.values():
        node.ip("route", "delete", "default")
    lab.start()


def switch(lab: ProcessLab, pools: dict[str, object], *, on: bool) -> None:
    """Upgrade as a rollout does: first the controller, later the agents."""
    lab.product.upgrade(overlay={"enabled": on}, pools=pools)
    assert lab.product.controller is not None
    lab.product.controller.restart()
    lab.product.wait_controller()


def restart_agents(lab: ProcessLab) -> None:
    for name, agent in lab.product.agents.items():
        agent.restart()
        lab.product.wait_agent(lab.nodes[name])


def find_source(lab: ProcessLab, name: str) -> str:
    try:
        return observed_source(lab.nodes[name], vlan.ON_PREMISE_HOST, timeout=1)
    except Unreachable:
        return "unreachable"


def wait_source(lab: ProcessLab, name: str, source: str) -> None:
    wait_until(lambda: find_source(lab, name) == source, f"the on-premise host observes {name} as {source}")


def columns(lab: ProcessLab, name: str) -> dict[str, str]:
    """The node's line of `kubectl get noip`."""
    headers, rows = lab.kubectl_table("noip")
    (row,) = [row for row in rows if row[0] == name]
    return dict(zip(headers, row, strict=True))


def test_overlay_addresses_are_disabled_and_enabled_again(lab: ProcessLab) -> None:
    begin(lab)
    node, pools = lab.first_node, lab.product.values["pools"]
    lab.register_nodes((FIRST,))
    assert find_source(lab, FIRST) == "unreachable", "without a StaticRoute there is no route to it"
    lab.apply_route()
    lab.wait_route(1)
    (address,) = lab.reserved()
    assert find_source(lab, FIRST) == address

    # Disable. A node whose agent is down may still use its address, which stays reserved.
    agent = lab.product.agents[FIRST]
    agent.kill9()
    switch(lab, {}, on=False)

    def waiting() -> bool:
        return columns(lab, FIRST)["RESERVATION"] == "WaitingForAgent"

    wait_until(waiting, "the controller waits for the agent")
    assert list(lab.reserved()) == [address]
    assert address in node.ip("address")
    assert find_source(lab, FIRST) == address
    # An agent with its old settings removes the address as well.
    agent.start()
    wait_until(lambda: not lab.reserved(), f"{address} is released")
    assert address not in node.ip("address")
    wait_source(lab, FIRST, FIRST)
    restart_agents(lab)

    # A node that joins now needs no pool.
    lab.api_server.apply(node_manifest(SECOND))
    lab.wait_route(2)
    for name in (FIRST, SECOND):
        assert find_source(lab, name) == name
        route = lab.nodes[name].ip("route", "show", vlan.ON_PREMISE_SUBNET)
        assert f"via {vlan.PRIVATE_GATEWAY} dev eth0" in route
        assert "tmp0" not in lab.nodes[name].ip("link")
        row = columns(lab, name)
        assert (row["ADDRESS"], row["IN-PLACE"], row["READY"]) == ("", "1", "True")
        assert row["RESERVATION"] == "RoutesOnly"
    assert not lab.reserved()
    reported = lab.api_server.get("staticroute", ROUTE)["status"]["nodeStatus"]
    assert {(each["hostname"], each["gateway"], each["device"]) for each in reported} == {
        (name, vlan.PRIVATE_GATEWAY, "eth0") for name in (FIRST, SECOND)
    }

    # The routes follow the node's own gateway.
    other = "10.176.162.140"
    lab.vlan.gateway.ip("address", "add", f"{other}/{vlan.PRIVATE_PREFIX}", "dev", "inner")
    node.ip("route", "replace", "10.0.0.0/8", "via", other)
    wait_until(lambda: f"via {other}" in node.ip("route", "show", vlan.ON_PREMISE_SUBNET), "the route has moved")
    assert find_source(lab, FIRST) == FIRST

    # Enable again.
    switch(lab, pools, on=True)
    restart_agents(lab)
    wait_until(lambda: len(lab.reserved()) == 2, "both nodes have an address")
    for reserved, name in lab.reserved().items():
        wait_source(lab, name, reserved)
    wait_until(
        lambda: all(condition_statuses(each).get("Ready") == "True" for each in lab.overlays()), "every node is Ready"
    )
    assert {address: name for name, address in lab.addresses().items()} == lab.reserved()
