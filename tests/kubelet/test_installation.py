"""The chart as users install it, on real kubelets: through upgrade, failures and removal to the uninstall."""

from lab.build.image import Image
from lab.cluster.cluster import Cluster
from lab.cluster.release import Release
from lab.scenario.kubelet_lab import KubeletLab
from lab.scenario.kubelet_scenario import KubeletScenario
from tests.kubelet.conftest import TableReporter


def test_no_packet_is_lost_from_install_to_uninstall(cluster: Cluster, image: Image, reporter: TableReporter) -> None:
    scenario = KubeletScenario(KubeletLab(cluster, Release(cluster, image), reporter))
    try:
        scenario.run()
    finally:
        reporter.table(*scenario.table())
    assert [result.lost for result in scenario.results] == [0] * len(scenario.results)
    assert sum(result.sent for result in scenario.results) > 1000
