"""Manifests of the objects that the lab creates."""

from typing import Any

ZONE = "dal10"
API_VERSION = "iks.ibm.com/v1alpha1"


def node_manifest(name: str, zone: str = ZONE) -> dict[str, Any]:
    """A Node with the labels that a kubelet and a cloud provider set."""
    labels = {
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": "us-south",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def static_route(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "StaticRoute", "metadata": {"name": name}, "spec": spec}
