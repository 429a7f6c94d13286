"""Manifests of the objects that the lab creates, and those that a chart renders."""

from typing import Any

import yaml

ZONE = "dal10"
API_VERSION = "iks.ibm.com/v1alpha1"


def parse_manifests(text: str) -> list[dict[str, Any]]:
    """The objects of a YAML stream, parsed by libyaml: those of a chart have 3,000 lines, which take Python 0.1 s."""
    return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]


def node_manifest(name: str, zone: str = ZONE) -> dict[str, Any]:
    """A Node with the labels that a kubelet and a cloud provider set."""
    labels = {
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": "us-south",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def registered_node_manifest(name: str, number: int) -> dict[str, Any]:
    """A Node as a kubelet registers it, with its address."""
    address = f"10.{176 + number // 65536}.{number // 256 % 256}.{number % 256}"
    return node_manifest(name) | {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}


def large_node_manifest(name: str, number: int) -> dict[str, Any]:
    """A Node of 20 kB like those of a cloud: with addresses, conditions and the 50 images that a kubelet lists."""
    node = node_manifest(name)
    names = [f"registry.example.com/{name}/image-{image}" for image in range(50)]
    images = [
        {"names": [f"{each}@sha256:{image:064x}", f"{each}:v1.{image}.0"], "sizeBytes": 10**8 + image}
        for image, each in enumerate(names)
    ]
    time = "2026-01-01T00:00:00Z"
    kinds = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    conditions = [
        {
            "type": kind,
            "status": "True" if kind == "Ready" else "False",
            "reason": f"KubeletHasNo{kind}",
            "message": f"kubelet reports the state of {kind}",
            "lastHeartbeatTime": time,
            "lastTransitionTime": time,
        }
        for kind in kinds
    ]
    resources = {"cpu": "16", "memory": "65536Mi", "pods": "110", "ephemeral-storage": "102687672Ki"}
    information = {
        "architecture": "amd64",
        "bootID": f"b{number:07x}-0000-4000-8000-000000000000",
        "containerRuntimeVersion": "containerd://2.1.4",
        "kernelVersion": "6.8.0",
        "kubeProxyVersion": "",
        "kubeletVersion": "v1.34.1",
        "machineID": f"{number:032x}",
        "operatingSystem": "linux",
        "osImage": "Ubuntu 24.04",
        "systemUUID": f"{number:032x}",
    }
    node["status"] = {
        "addresses": [
            {"type": "InternalIP", "address": f"10.{176 + number // 65536}.{number // 256 % 256}.{number % 256}"},
            {"type": "Hostname", "address": name},
        ],
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions,
        "nodeInfo": information,
        "images": images,
    }
    return node


def static_route(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "StaticRoute", "metadata": {"name": name}, "spec": spec}
