"""Lost packets when the link of the gateway in use fails, and another gateway is on another link.

node ─ eth1 ─ 10.20.0.1 gateway-2 ─┐
  └─── tmp0 ─ 192.168.100.1 gateway ┴─ on-premise host, which answers through gateway
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.bench.dataplane import running
from lab.bench.measure import Row
from lab.net import vlan
from lab.net.namespaces import Namespace, connect
from lab.net.traffic import Stream
from lab.net.vlan import Node
from lab.processes import wait_until
from lab.scenario.process_lab import ProcessLab

RATE = 500
GATEWAY, NODE_ADDRESS, LINK = "10.20.0.1", "10.20.0.2", "eth1"
SOURCE = "10.99.0.7"
"""On no link: the kernel prefers the next hop on the link that has the source address (fib_select_multipath)."""
GOAL = 1.0

MODES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "standby": ({"priority": 0}, {"priority": 1}),
    # Nearly all hashes select the gateway whose link fails.
    "ECMP": ({"weight": 256}, {"weight": 1}),
}
"""The fields of the gateway whose link fails, and of the other one."""


def bench_link_failure(directory: Path) -> list[Row]:
    with running(directory) as lab:
        node = lab.first_node
        gateway = lab.vlan.add_gateway("gateway-2", "192.168.100.253")
        # Without a route of the agent, packets must not find another way.
        node.ip("route", "delete", "default")
        node.ip("address", "add", f"{SOURCE}/32", "dev", "lo")
        lab.vlan.gateway.ip("route", "add", SOURCE, "via", lab.addresses()[node.name])
        lab.vlan.on_premise.ip("route", "add", SOURCE, "via", vlan.ON_PREMISE_GATEWAY)
        _join(node, gateway)
        return [_measure(lab, gateway, mode, failure) for mode in MODES for failure in FAILURES]


def _join(node: Node, gateway: Namespace) -> None:
    connect(node, LINK, gateway, "storage")
    gateway.ip("address", "add", f"{GATEWAY}/24", "dev", "storage")
    node.ip("address", "add", f"{NODE_ADDRESS}/24", "dev", LINK)


FAILURES: dict[str, tuple[Callable[[Node, Namespace], Any], Callable[[Node, Namespace], Any]]] = {
    "carrier lost": (
        lambda _, gateway: gateway.ip("link", "set", "storage", "down"),
        lambda _, gateway: gateway.ip("link", "set", "storage", "up"),
    ),
    "link down": (
        lambda node, _: node.ip("link", "set", LINK, "down"),
        lambda node, _: node.ip("link", "set", LINK, "up"),
    ),
    "link deleted": (lambda node, _: node.ip("link", "delete", LINK), _join),
}


def _measure(lab: ProcessLab, gateway: Namespace, mode: str, failure: str) -> Row:
    node = lab.first_node
    agent = lab.product.agents[node.name]
    # An agent that was restarted does not hold a link that has failed before.
    agent.restart()
    lab.product.wait_agent(node)
    first, second = MODES[mode]
    lab.apply_route(gateways=[{"address": GATEWAY, **first}, {"address": vlan.OVERLAY_GATEWAY, **second}])
    wait_until(lambda: _link_in_use(node) == LINK, f"{mode}: traffic uses {LINK}")
    stream = Stream(node, vlan.ON_PREMISE_HOST, RATE, SOURCE)
    time.sleep(0.5)
    fail, repair = FAILURES[failure]
    fail(node, gateway)
    wait_until(lambda: _link_in_use(node) == "tmp0", f"{mode}, {failure}: traffic uses the other link")
    time.sleep(1)
    count = stream.stop()
    repair(node, gateway)
    lost = f"{count.lost} of {count.sent} packets lost"
    return "link failure", f"{mode}: {failure}", lost, f"{count.lost / RATE:.2f} s, goal {GOAL:g} s"


def _link_in_use(node: Node) -> str:
    words = node.ip("route", "get", vlan.ON_PREMISE_HOST, "from", SOURCE, check=False).split()
    return words[words.index("dev") + 1] if "dev" in words else ""
