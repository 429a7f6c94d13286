"""Nodes without overlay addresses, on the wire; and an installation that is switched there and back."""

import ipaddress

from lab.manifests import node_manifest
from lab.net import vlan
from lab.net.traffic import Unreachable, observed_source
from lab.processes import wait_until
from lab.product import condition_statuses
from lab.story import ROUTE, Story

FIRST, SECOND = vlan.NODE_NAMES[:2]
PRIVATE_SUBNET = str(ipaddress.ip_interface(f"{FIRST}/{vlan.PRIVATE_PREFIX}").network)


def begin(story: Story) -> None:
    """Nodes whose only way out is that of 10.0.0.0/8, and an on-premise host that knows the way back to them."""
    story.build((FIRST, SECOND))
    story.vlan.on_premise.ip("route", "add", PRIVATE_SUBNET, "via", vlan.ON_PREMISE_GATEWAY)
    for node in story.vlan.nodes.values():
        node.ip("route", "delete", "default")
    story.start()


def switch(story: Story, pools: dict[str, object], *, on: bool) -> None:
    """As a roll-out does it: first the controller, later the agents, one after the other."""
    story.product.upgrade(overlay={"enabled": on}, pools=pools)
    assert story.product.controller is not None
    story.product.controller.restart()
    story.product.wait_controller()


def restart_agents(story: Story) -> None:
    for name, agent in story.product.agents.items():
        agent.restart()
        story.product.wait_agent(story.vlan.nodes[name])


def source_of(story: Story, name: str) -> str:
    try:
        return observed_source(story.vlan.nodes[name], vlan.ON_PREMISE_HOST, timeout=1)
    except Unreachable:
        return "unreachable"


def wait_source(story: Story, name: str, source: str) -> None:
    wait_until(lambda: source_of(story, name) == source, f"the on-premise host sees {name} as {source}")


def columns(story: Story, name: str) -> dict[str, str]:
    """The node's line of `kubectl get noip`."""
    headers, rows = story.kubectl_table("noip")
    (row,) = [row for row in rows if row[0] == name]
    return dict(zip(headers, row, strict=True))


def test_an_installation_is_switched_to_routes_only_and_back(story: Story) -> None:
    begin(story)
    node, pools = story.a_node, story.product.values["pools"]
    story.register_nodes((FIRST,))
    assert source_of(story, FIRST) == "unreachable", "nothing but a StaticRoute leads there"
    story.apply_route()
    story.wait_route(1)
    (address,) = story.reserved()
    assert source_of(story, FIRST) == address

    # Off. While its agent is away, a node may still use its address, which stays reserved.
    agent = story.product.agents[FIRST]
    agent.kill9()
    switch(story, {}, on=False)

    def waits() -> bool:
        return columns(story, FIRST)["REASON"] == "WaitingForAgent"

    wait_until(waits, "the controller waits for the agent")
    assert list(story.reserved()) == [address]
    assert address in node.ip("address")
    assert source_of(story, FIRST) == address
    # An agent that has its old settings lets go as well.
    agent.start()
    wait_until(lambda: not story.reserved(), f"{address} is released")
    assert address not in node.ip("address")
    wait_source(story, FIRST, FIRST)
    restart_agents(story)

    # A node that joins now needs no pool.
    story.api_server.apply(node_manifest(SECOND))
    story.wait_route(2)
    for name in (FIRST, SECOND):
        assert source_of(story, name) == name
        route = story.vlan.nodes[name].ip("route", "show", vlan.ON_PREMISE_SUBNET)
        assert f"via {vlan.PRIVATE_GATEWAY} dev eth0" in route
        assert "tmp0" not in story.vlan.nodes[name].ip("link")
        shown = columns(story, name)
        assert (shown["ADDRESS"], shown["IN-PLACE"], shown["READY"]) == ("", "1", "True")
        assert shown["REASON"] == "RoutesOnly"
    assert not story.reserved()
    told = story.api_server.get("staticroute", ROUTE)["status"]["nodeStatus"]
    assert {(each["hostname"], each["gateway"], each["device"]) for each in told} == {
        (name, vlan.PRIVATE_GATEWAY, "eth0") for name in (FIRST, SECOND)
    }

    # Another gateway of the node's own is followed.
    other = "10.176.162.140"
    story.vlan.gateway.ip("address", "add", f"{other}/{vlan.PRIVATE_PREFIX}", "dev", "inner")
    node.ip("route", "replace", "10.0.0.0/8", "via", other)
    wait_until(lambda: f"via {other}" in node.ip("route", "show", vlan.ON_PREMISE_SUBNET), "the route has moved")
    assert source_of(story, FIRST) == FIRST

    # And on again.
    switch(story, pools, on=True)
    restart_agents(story)
    wait_until(lambda: len(story.reserved()) == 2, "both nodes have an address")
    for reserved, name in story.reserved().items():
        wait_source(story, name, reserved)
    wait_until(
        lambda: all(condition_statuses(each).get("Ready") == "True" for each in story.overlays()), "every node is Ready"
    )
    assert {address: name for name, address in story.addresses().items()} == story.reserved()
