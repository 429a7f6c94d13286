"""The chart as users install it, on real kubelets: through upgrade, failures and removal to the uninstall."""

import sys
from concurrent.futures import ThreadPoolExecutor
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

BASELINE = "pod-security.kubernetes.io/enforce=baseline"
PRIVILEGED = "--set=podSecurity.labelNamespace=true"
QUOTA = "ResourceQuota compute has no room: 3 agents and 2 controllers need 5 of pods, and 4 of 4 is left"
REASONS = {
    "baseline": (
        "--set=podSecurity.labelNamespace=false",
        "namespace baseline does not admit the pods of the agents: violates PodSecurity",
    ),
    "quota": (PRIVILEGED, QUOTA),
    "port": (PRIVILEGED, "port 9477 of agent.settings.http.bind is in use by another process on {node}"),
    "image": (
        "--set=image.repository=127.0.0.1:1/none,image.pullPolicy=Always,hooks.imagePullTimeout=5s",
        "pod image-overlay-net-image-pull failed",
    ),
    "secret": ("--set=imagePullSecrets[0].name=registry", "there is no Secret registry in namespace secret"),
}
"""Name of release and namespace -> option of helm, and the sentence with the reason."""


def test_install_that_cannot_succeed_ends_within_half_a_minute_with_the_reason(
    cluster: Cluster, image: Image, tmp_path: Path
) -> None:
    """helm itself would only report a timeout after that."""
    helm, kubectl = cluster.control_plane.helm, cluster.control_plane.kubectl
    node = next(iter(cluster.nodes.values()))
    values = f"image.repository={image.repository},image.tag={image.tag},image.pullPolicy=Never"

    def install(name: str) -> str:
        option, _ = REASONS[name]
        # Half a minute is enough, if nothing else runs on the machine.
        where = (f"--namespace={name}", "--timeout=60s", "--wait")
        with pytest.raises(CommandFailed) as refused:
            helm("install", name, str(CHART), f"--set={values},hooks.imagePullTimeout=55s", option, *where)
        return str(refused.value)

    for name in REASONS:
        kubectl("create", "namespace", name)
        kubectl("label", "namespace", name, BASELINE)
    kubectl("create", "quota", "compute", "--hard=pods=4", "--namespace=quota")
    command = [sys.executable, "-m", "http.server", "9477"]
    other = NodeProcess("other", command, log=tmp_path / "other.log", enter=node.machine.enter)
    try:
        with ThreadPoolExecutor() as threads:
            outputs = dict(zip(REASONS, threads.map(install, REASONS), strict=True))
    finally:
        other.terminate()
    for name, (_, sentence) in REASONS.items():
        assert sentence.format(node=node.name) in outputs[name]
    shown = kubectl("describe", "pod", "image-overlay-net-image-pull", "--namespace=image")
    assert "ErrImagePull" in shown
    for name in ("baseline", "quota", "port", "image"):
        helm("uninstall", name, f"--namespace={name}", "--no-hooks")
    kubectl("delete", "namespace", *REASONS, "--wait=false")


# A power cycle, a rollout to each node and a deleted namespace take their time.
@pytest.mark.timeout(900)
def test_no_packet_is_lost_from_install_to_uninstall(cluster: Cluster, image: Image, reporter: TableReporter) -> None:
    scenario = KubeletScenario(KubeletLab(cluster, Release(cluster, image), reporter))
    try:
        scenario.run()
    finally:
        reporter.table(*scenario.table())
    assert [result.lost for result in scenario.results] == [0] * len(scenario.results)
    assert sum(result.sent for result in scenario.results) > 1000
