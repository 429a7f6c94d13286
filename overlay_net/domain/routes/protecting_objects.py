"""What Nodes, NodeOverlayIps and OverlayPools protect: no StaticRoute may overlap their addresses and subnets."""

from collections.abc import Iterator
from ipaddress import ip_network

from overlay_net.domain.routes.protected_subnets import ProtectedSubnet
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool


def protected_by_node(node: Node) -> Iterator[ProtectedSubnet]:
    for subnet, use in node.protected:
        yield ProtectedSubnet(subnet, f"{use} of node {node.name}")


def node_networks(node: Node) -> Iterator[ProtectedSubnet]:
    for address in node.addresses:
        yield ProtectedSubnet(ip_network(address), describe_node_address(node.name))
    for subnet in node.pod_subnets:
        yield ProtectedSubnet(subnet, f"pod subnet of node {node.name}")


def describe_node_address(name: str) -> str:
    return f"address of node {name}"


def protected_by_overlay(overlay: NodeOverlay) -> Iterator[ProtectedSubnet]:
    assignment = overlay.assignment
    if assignment.address is not None:
        yield ProtectedSubnet(ip_network(assignment.address.ip), f"overlay address of node {overlay.name}")
    for gateway in (assignment.gateway, overlay.gateway_override):
        if gateway is not None:
            # Without the name of the node: thousands of nodes have the same one.
            yield ProtectedSubnet(ip_network(gateway), "overlay gateway")


def protected_by_pool(pool: Pool) -> Iterator[ProtectedSubnet]:
    if pool.cidr is not None:
        yield ProtectedSubnet(pool.cidr, f"OverlayPool {pool.name}")
    if pool.gateway is not None:
        yield ProtectedSubnet(ip_network(pool.gateway), f"gateway of OverlayPool {pool.name}")
