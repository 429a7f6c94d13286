"""The product on a cluster as users get it: its chart installed with values, its image run by kubelets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.build.image import Image
from lab.cluster.cluster import Cluster
from lab.net import vlan
from lab.processes import wait_until
from lab.product import CHART, NAMESPACE

NAME = "overlay-net"
POOLS = {"onprem": {"cidr": vlan.OVERLAY_SUBNET, "gateway": vlan.OVERLAY_GATEWAY}}
# Roll-outs take seconds, and a minute on a machine that is busy with other things.
ROLL_OUT = "100s"
WAIT = ("--wait", f"--timeout={ROLL_OUT}")


class Release:
    def __init__(self, cluster: Cluster, image: Image) -> None:
        self.cluster = cluster
        self._image = image

    def install(self, chart: Path = CHART, **values: Any) -> None:
        """`helm install`; returns when all pods are ready. ``values`` are added to image and pool."""
        self._install("install", chart, self._image.tag, values, "--create-namespace")

    def upgrade(self, values: Mapping[str, Any], chart: Path = CHART) -> None:
        """`helm upgrade` to these values and another tag of the image; returns when all pods are replaced."""
        tag = f"{self._image.tag}-next"
        for node in self.cluster.nodes.values():
            node.ctr("images", "tag", "--force", self._name(self._image.tag), self._name(tag))
        self._install("upgrade", chart, tag, values)
        self._wait_no_terminating_pods()

    def roll_back(self) -> None:
        """`helm rollback` to the previous release."""
        self._helm("rollback", *WAIT)
        self._wait_no_terminating_pods()

    def test(self) -> None:
        """`helm test`; raises CommandFailed with the output of its pod."""
        self._helm("test", f"--timeout={ROLL_OUT}")

    def uninstall(self) -> None:
        """`helm uninstall`; returns when the pods have ended."""
        self._helm("uninstall", *WAIT)
        # The pods of a deleted Node stay for up to 80 s: until two passes of the garbage collector of pods, which runs
        # every 20 s, that are at least 40 s apart.
        wait_until(lambda: not self.pods(), "the pods have ended", timeout=120)

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cluster.control_plane.get("pods", f"--namespace={NAMESPACE}")["items"]
        return found

    def _install(self, command: str, chart: Path, tag: str, values: Mapping[str, Any], *options: str) -> None:
        image = {"repository": self._image.repository, "tag": tag, "pullPolicy": "Never"}
        file = self.cluster.directory / "values.json"
        file.write_text(json.dumps({"image": image, "pools": POOLS, **values}))
        self._helm(command, str(chart), f"--values={file}", *WAIT, *options)

    def _helm(self, command: str, *arguments: str) -> None:
        self.cluster.control_plane.helm(command, NAME, *arguments, f"--namespace={NAMESPACE}")

    def _name(self, tag: str) -> str:
        return f"{self._image.repository}:{tag}"

    def _wait_no_terminating_pods(self) -> None:
        def settled() -> bool:
            return not any("deletionTimestamp" in pod["metadata"] for pod in self.pods())

        wait_until(settled, "the pods of the earlier release have ended", timeout=90)
