"""The product on a cluster as users get it: its chart installed from values, its image run by kubelets."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.build.image import Image
from lab.cluster.cluster import Cluster
from lab.net import vlan
from lab.net.traffic import Unreachable, observed_source
from lab.processes import wait_until
from lab.product import CHART, NAMESPACE

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

    def install(self, chart: Path = CHART, **values: Any) -> None:
        """`helm install`; returns when all pods are ready. ``values`` come on top of image and pool."""
        self._helm("install", chart, self._image.tag, values, "--create-namespace")

    def upgrade(self, values: Mapping[str, Any], chart: Path = CHART) -> None:
        """`helm upgrade` to these values and an image of another name; returns when all pods are new."""
        tag = f"{self._image.tag}-next"
        for node in self.cluster.nodes.values():
            node.ctr("images", "tag", "--force", self._name(self._image.tag), self._name(tag))
        self._helm("upgrade", chart, tag, values)
        self._wait_old_pods_gone()

    def roll_back(self) -> None:
        """`helm rollback` to the release before."""
        self.cluster.control_plane.helm("rollback", NAME, f"--namespace={NAMESPACE}", "--wait", f"--timeout={ROLL_OUT}")
        self._wait_old_pods_gone()

    def test(self) -> None:
        """`helm test`; raises CommandFailed with what its pod said."""
        self.cluster.control_plane.helm("test", NAME, f"--namespace={NAMESPACE}", f"--timeout={ROLL_OUT}")

    def uninstall(self) -> None:
        """`helm uninstall`; returns when the pods have ended."""
        self.cluster.control_plane.helm(
            "uninstall", NAME, f"--namespace={NAMESPACE}", "--wait", f"--timeout={ROLL_OUT}"
        )
        wait_until(lambda: not self.pods(), "the pods have ended", timeout=60)

    def _helm(self, command: str, chart: Path, tag: str, values: Mapping[str, Any], *options: str) -> None:
        image = {"repository": self._image.repository, "tag": tag, "pullPolicy": "Never"}
        file = self.cluster.directory / "values.json"
        file.write_text(json.dumps({"image": image, "pools": POOLS, **values}))
        words = (f"--namespace={NAMESPACE}", f"--values={file}", "--wait", f"--timeout={ROLL_OUT}")
        self.cluster.control_plane.helm(command, NAME, str(chart), *words, *options)

    def _name(self, tag: str) -> str:
        return f"{self._image.repository}:{tag}"

    def _wait_old_pods_gone(self) -> None:
        def settled() -> bool:
            return not any("deletionTimestamp" in pod["metadata"] for pod in self.pods())

        wait_until(settled, "the pods of before have ended", timeout=90)

    def add_route(self, subnets: Sequence[str] = (vlan.ON_PREMISE_SUBNET,)) -> None:
        """The StaticRoute to the on-premise subnet, and to others where they are given."""
        kind = {"apiVersion": "iks.ibm.com/v1alpha1", "kind": "StaticRoute"}
        self.cluster.control_plane.apply({**kind, "metadata": {"name": ROUTE}, "spec": {"subnets": list(subnets)}})

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cluster.control_plane.get("pods", f"--namespace={NAMESPACE}")["items"]
        return found

    def controller(self) -> dict[str, Any]:
        """The controller's pod."""
        return next(pod for pod in self.pods() if pod["metadata"]["labels"][COMPONENT] == "controller")

    def addresses(self) -> dict[str, str]:
        """Node -> its overlay address, as its object says."""
        items = self.cluster.control_plane.get("nodeoverlayips")["items"]
        return {
            item["metadata"]["name"]: item["status"]["ipAddr"].partition("/")[0]
            for item in items
            if item.get("status", {}).get("ipAddr")
        }

    def reserved(self) -> dict[str, str]:
        """Node -> the address that the pool holds for it."""
        items = self.cluster.control_plane.get("overlayaddresses")["items"]
        return {item["spec"]["node"]: item["spec"]["address"] for item in items}

    def wait_source(self, node: str) -> str:
        """The source address that the on-premise host sees of ``node``, as soon as a connection comes about."""
        seen = []

        def answered() -> bool:
            try:
                seen.append(observed_source(self.cluster.nodes[node].machine, vlan.ON_PREMISE_HOST, timeout=1))
            except Unreachable:
                return False
            return True

        wait_until(answered, f"{node} reaches {vlan.ON_PREMISE_HOST}", timeout=60)
        return seen[-1]
