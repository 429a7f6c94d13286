"""The lab's network: nodes on a VLAN, a gateway appliance at its edge, an on-premise host behind it.

    node 10.176.162.151 ─┐                 ┌─ 10.176.162.129 ─┐
    node 10.176.162.152 ─┼─ bridge vlan0 ──┤     gateway      ├─ on-premise 192.168.0.10
    node 10.176.162.153 ─┘   (API server)  └─ 192.168.100.1 ──┘   knows 192.168.100.0/24 only

There is no NAT. The on-premise host has a route back to the overlay subnet only, and none to the nodes' private subnet:
it can only answer packets with an overlay address as their source.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from lab.net.namespaces import Namespace, connect, join_bridge, leave_bridge, make_bridge, remove_bridge

BRIDGE = "vlan0"
PRIVATE_PREFIX = 26
CONTROL_PLANE_ADDRESS = "10.176.162.130"
PRIVATE_GATEWAY = "10.176.162.129"
OVERLAY_SUBNET = "192.168.100.0/24"
OVERLAY_GATEWAY = "192.168.100.1"
OTHER_OVERLAY_GATEWAY = "192.168.100.254"
ON_PREMISE_SUBNET = "192.168.0.0/24"
ON_PREMISE_GATEWAY = "192.168.0.1"
ON_PREMISE_HOST = "192.168.0.10"
NODE_NAMES = ("10.176.162.151", "10.176.162.152", "10.176.162.153")


class Node(Namespace):
    """A worker node named after its private address, which is on ``eth0``."""

    def __init__(self, name: str, port: str) -> None:
        super().__init__(name)
        self.port = port
        # The MAC address depends on the name: neighbour caches stay valid when a node of the same name returns.
        mac = "52:54:" + ":".join(f"{int(part):02x}" for part in name.split("."))
        join_bridge(self, BRIDGE, port=port, mac=mac)
        self.ip("address", "add", f"{name}/{PRIVATE_PREFIX}", "dev", "eth0")
        self.ip("route", "add", "10.0.0.0/8", "via", PRIVATE_GATEWAY)
        self.ip("route", "add", "default", "via", PRIVATE_GATEWAY)

    def close(self) -> None:
        """A power failure: all processes of the node end, and its port is removed."""
        super().close()
        leave_bridge(self.port)


class Vlan:
    """The whole network. Requires private namespaces: the bridge is created in the caller's."""

    def __init__(self, nodes: Sequence[str] = NODE_NAMES, make_node: Callable[[str, str], Node] = Node) -> None:
        """``make_node`` gets the names of a node and of its port on the bridge."""
        self._make_node = make_node
        make_bridge(BRIDGE, f"{CONTROL_PLANE_ADDRESS}/{PRIVATE_PREFIX}", "52:54:00:00:00:82")
        self.gateway = Namespace("gateway")
        self.on_premise = Namespace("on-premise")
        self._ports = 0
        self._more_gateways: list[Namespace] = []
        self._return_paths = {"gateway": ON_PREMISE_GATEWAY}
        self._edge()
        self.nodes: dict[str, Node] = {}
        for name in nodes:
            self.add_node(name)

    def _edge(self) -> None:
        join_bridge(self.gateway, BRIDGE, port="gw", link="inner")
        connect(self.gateway, "outer", self.on_premise, "eth0")
        for address in (f"{PRIVATE_GATEWAY}/26", f"{OVERLAY_GATEWAY}/24", f"{OTHER_OVERLAY_GATEWAY}/24"):
            self.gateway.ip("address", "add", address, "dev", "inner")
        self.gateway.ip("address", "add", f"{ON_PREMISE_GATEWAY}/24", "dev", "outer")
        self.gateway.sysctl("net.ipv4.ip_forward", 1)
        self.on_premise.ip("address", "add", f"{ON_PREMISE_HOST}/24", "dev", "eth0")
        self.on_premise.ip("route", "add", OVERLAY_SUBNET, "via", ON_PREMISE_GATEWAY)

    def add_gateway(self, name: str, address: str) -> Namespace:
        """Add an appliance at the edge, with its own MAC address and its own path to the on-premise host."""
        self._ports += 1
        gateway = Namespace(name)
        self._more_gateways.append(gateway)
        there, here = f"10.255.{self._ports}.1", f"10.255.{self._ports}.2"
        join_bridge(gateway, BRIDGE, port=f"port{self._ports}", link="inner")
        connect(gateway, "outer", self.on_premise, f"eth{self._ports}")
        gateway.ip("address", "add", f"{address}/24", "dev", "inner")
        gateway.ip("address", "add", f"{there}/30", "dev", "outer")
        gateway.sysctl("net.ipv4.ip_forward", 1)
        self.on_premise.ip("address", "add", f"{here}/30", "dev", f"eth{self._ports}")
        gateway.ip("route", "add", ON_PREMISE_SUBNET, "via", here)
        self._return_paths[name] = there
        return gateway

    def set_return_path(self, name: str = "gateway") -> None:
        """Route the answers of the on-premise host through this gateway from now on."""
        # Answers keep the address that the request was sent to.
        hop = ("via", self._return_paths[name], "src", ON_PREMISE_HOST)
        self.on_premise.ip("route", "replace", OVERLAY_SUBNET, *hop)

    def add_node(self, name: str) -> Node:
        self._ports += 1
        node = self.nodes[name] = self._make_node(name, f"port{self._ports}")
        return node

    def remove_node(self, name: str) -> None:
        self.nodes.pop(name).close()

    def close(self) -> None:
        for name in list(self.nodes):
            self.remove_node(name)
        for gateway in self._more_gateways:
            gateway.close()
        self.on_premise.close()
        self.gateway.close()
        remove_bridge(BRIDGE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
