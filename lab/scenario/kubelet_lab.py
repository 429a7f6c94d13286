"""A lab with kubelets: the installed chart on a cluster whose nodes are machines that can lose power."""

from lab.cluster.cluster import Cluster
from lab.cluster.release import Release
from lab.scenario.address_source import ClusterSource
from lab.scenario.lab import Lab
from lab.scenario.reporter import Reporter


class KubeletLab(Lab):
    """On a started cluster, which its owner closes."""

    def __init__(self, cluster: Cluster, release: Release, reporter: Reporter) -> None:
        super().__init__(reporter, patience=90.0)
        self.cluster = cluster
        self.release = release
        self.api_server = cluster.control_plane
        self.vlan = cluster.vlan
        self.source = ClusterSource(cluster.control_plane)

    def remove_node(self, name: str) -> None:
        self.cluster.remove_node(name)
