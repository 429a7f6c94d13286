"""The chart as users install it, on real kubelets: through upgrade, failures and removal to the uninstall."""

import sys
from pathlib import Path

import pytest

from lab.build.image import Image
from lab.cluster.cluster import Cluster
from lab.cluster.node import NodeProcess
from lab.cluster.release import Release
from lab.processes import CommandFailed
from lab.product import CHART
from lab.scenario.kubelet_lab import KubeletLab
from lab.scenario.kubelet_scenario import KubeletScenario
from tests.kubelet.conftest import TableReporter


def test_install_that_cannot_succeed_ends_within_seconds_with_the_reason(
    cluster: Cluster, image: Image, tmp_path: Path
) -> None:
    """Once in a namespace that admits no agents, then with a port that another process of a node uses."""
    helm, kubectl = cluster.control_plane.helm, cluster.control_plane.kubectl
    kubectl("create", "namespace", "refused")
    kubectl("label", "namespace", "refused", "pod-security.kubernetes.io/enforce=baseline")
    values = f"image.repository={image.repository},image.tag={image.tag},image.pullPolicy=Never"
    install = ("install", "refused", str(CHART), "--namespace=refused", f"--set={values}", "--wait", "--timeout=60s")

    def fails_with(reason: str, *options: str) -> None:
        with pytest.raises(CommandFailed):
            helm(*install, *options)
        assert reason in kubectl("logs", "refused-overlay-net-preflight", "--namespace=refused")
        helm("uninstall", "refused", "--namespace=refused", "--no-hooks")

    fails_with("does not admit the pods of the agents: violates PodSecurity")
    name, node = next(iter(cluster.nodes.items()))
    command = [sys.executable, "-m", "http.server", "9477"]
    other = NodeProcess("other", command, log=tmp_path / "other.log", enter=node.machine.enter)
    try:
        fails_with(f"is in use by another process on {name}", "--set=podSecurity.labelNamespace=true")
    finally:
        other.terminate()
    kubectl("delete", "namespace", "refused", "--wait=false")


def test_no_packet_is_lost_from_install_to_uninstall(cluster: Cluster, image: Image, reporter: TableReporter) -> None:
    scenario = KubeletScenario(KubeletLab(cluster, Release(cluster, image), reporter))
    try:
        scenario.run()
    finally:
        reporter.table(*scenario.table())
    assert [result.lost for result in scenario.results] == [0] * len(scenario.results)
    assert sum(result.sent for result in scenario.results) > 1000
