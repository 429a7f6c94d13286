"""Overlay addresses and static routes for Kubernetes nodes, from an IPAM to the kernel, without NAT."""

__version__ = "0.1.0"
