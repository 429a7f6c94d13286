"""A node with eth0, its gateway on another machine, and an on-premise host behind the gateway."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path

import pytest

from lab.net.namespaces import Namespace
from lab.net.traffic import PORT, serve
from overlay_net.domain.kernel.desired import LinkConfig, stable_mac
from overlay_net.model.api import JsonObject
from overlay_net.model.overlay import NodeOverlay
from overlay_net.settings.agent import AgentSettings
from tests.fakes.netns import ip, netns, try_ip

__all__ = ["netns"]

OVERLAY = ip_interface("192.168.100.4/24")
ON_PREMISE = "192.168.0.10"
NODE_IP = "10.176.162.151"
MAC = stable_mac("n1", "tmp0")
ROUTE = {"subnet": "192.168.0.0/24", "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}]}


class Edge:
    """eth0 of this machine, the gateway at its other end, and the on-premise host behind the gateway."""

    def __init__(self, log: Path) -> None:
        self.gateway = Namespace("gateway")
        self.add_interface()
        self.gateway.ip("address", "add", f"{ON_PREMISE}/32", "dev", "lo")
        self._server = serve(self.gateway, log)

    def add_interface(self) -> None:
        peer = ["peer", "name", "inner", "netns", str(self.gateway.pid)]
        ip("link", "add", "eth0", "address", "52:54:00:00:00:01", "type", "veth", *peer)
        ip("address", "add", f"{NODE_IP}/26", "dev", "eth0")
        ip("link", "set", "eth0", "up")
        self.gateway.ip("address", "add", "10.176.162.129/26", "dev", "inner")
        self.gateway.ip("address", "add", "192.168.100.1/24", "dev", "inner")
        self.gateway.ip("link", "set", "inner", "up")
        ip("route", "add", "10.0.0.0/8", "via", "10.176.162.129")

    def close(self) -> None:
        self._server.kill9()
        self.gateway.close()


@pytest.fixture
def edge(netns: None, tmp_path: Path) -> Iterator[Edge]:
    with make_edge(tmp_path / "traffic.log") as edge:
        yield edge


@contextmanager
def make_edge(log: Path) -> Iterator[Edge]:
    """Skips where the kernel has no veth links."""
    refused = try_ip("link", "add", "try0", "type", "veth", "peer", "name", "try1")
    if refused:
        pytest.skip(f"the kernel has no veth links: {refused.strip()}")
    ip("link", "delete", "try0")
    edge = Edge(log)
    try:
        yield edge
    finally:
        edge.close()


def require(kind: str) -> None:
    """Skips where the kernel lacks that kind of link, and names it."""
    refused = try_ip("link", "add", "try0", "link", "eth0", "type", kind)
    if refused:
        pytest.skip(f"the kernel has no {kind} links: {refused.strip()}")
    ip("link", "delete", "try0")


def make_config(mode: str = "macvlan", parent: str = "eth0", macvlan_mode: str = "bridge") -> LinkConfig:
    """The LinkConfig of these settings."""
    environment = {"node_name": "n1", "node_ip": NODE_IP, "interface": parent, "link_mode": mode}
    return AgentSettings.model_validate(environment | {"macvlan_mode": macvlan_mode}).link_config


def node_overlay_ip(address: str | None = str(OVERLAY), *routes: JsonObject) -> JsonObject:
    return {
        "metadata": {"name": "n1", "uid": "u", "resourceVersion": "7", "generation": 1},
        "spec": {"routes": list(routes)},
        "status": {"ipAddr": address} if address else {},
    }


USUAL = NodeOverlay.parse(node_overlay_ip(str(OVERLAY), ROUTE))


def observed_source(timeout: float = 5.0) -> str:
    """The source address of a TCP connection from here as the on-premise host observed it. Raises TimeoutError."""
    with socket.create_connection((ON_PREMISE, PORT), timeout=timeout) as connection:
        return connection.recv(100).decode().strip()
