"""The product on a cluster as users get it: its chart installed from values, its image run by kubelets."""

import json
from typing import Any

from lab import vlan
from lab.cluster.cluster import Cluster
from lab.image import Image
from lab.processes import wait_until
from lab.product import CHART, NAMESPACE
from lab.traffic import Unreachable, seen_source

NAME = "overlay-net"
COMPONENT = "app.kubernetes.io/component"
POOLS = {"onprem": {"cidr": vlan.OVERLAY_SUBNET, "gateway": vlan.OVERLAY_GATEWAY}}
ROUTE = "onprem-192.168.0.0-24"
# Roll-outs take seconds, and a minute on a machine that is busy with other things.
ROLL_OUT = "100s"


class Release:
    def __init__(self, cluster: Cluster, image: Image) -> None:
        self.cluster = cluster
        self._image = image

    def install(self, **values: Any) -> None:
        """`helm install`; returns when all pods are ready. ``values`` come on top of image and pool."""
        image = {"repository": self._image.repository, "tag": self._image.tag, "pullPolicy": "Never"}
        file = self.cluster.directory / "values.json"
        file.write_text(json.dumps({"image": image, "pools": POOLS, **values}))
        words = (
            f"--namespace={NAMESPACE}",
            "--create-namespace",
            f"--values={file}",
            "--wait",
            f"--timeout={ROLL_OUT}",
        )
        self.cluster.plane.helm("install", NAME, str(CHART), *words)

    def uninstall(self) -> None:
        """`helm uninstall`; returns when the pods have ended."""
        self.cluster.plane.helm("uninstall", NAME, f"--namespace={NAMESPACE}", "--wait", f"--timeout={ROLL_OUT}")
        wait_until(lambda: not self.pods(), "the pods have ended", timeout=60)

    def add_route(self) -> None:
        """The StaticRoute to the on-premise subnet."""
        kind = {"apiVersion": "iks.ibm.com/v1alpha1", "kind": "StaticRoute"}
        self.cluster.plane.apply({**kind, "metadata": {"name": ROUTE}, "spec": {"subnet": vlan.ON_PREMISE_SUBNET}})

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cluster.plane.get("pods", f"--namespace={NAMESPACE}")["items"]
        return found

    def controller(self) -> dict[str, Any]:
        """The controller's pod."""
        return next(pod for pod in self.pods() if pod["metadata"]["labels"][COMPONENT] == "controller")

    def addresses(self) -> dict[str, str]:
        """Node -> its overlay address, as its object says."""
        items = self.cluster.plane.get("nodeoverlayips")["items"]
        return {
            item["metadata"]["name"]: item["status"]["ipAddr"].partition("/")[0]
            for item in items
            if item.get("status", {}).get("ipAddr")
        }

    def reserved(self) -> dict[str, str]:
        """Node -> the address that the pool holds for it."""
        items = self.cluster.plane.get("overlayaddresses")["items"]
        return {item["spec"]["node"]: item["spec"]["address"] for item in items}

    def wait_source(self, node: str) -> str:
        """The source address that the on-premise host sees of ``node``, as soon as a connection comes about."""
        seen = []

        def answered() -> bool:
            try:
                seen.append(seen_source(self.cluster.nodes[node].machine, vlan.ON_PREMISE_HOST, timeout=1))
            except Unreachable:
                return False
            return True

        wait_until(answered, f"{node} reaches {vlan.ON_PREMISE_HOST}", timeout=60)
        return seen[-1]
