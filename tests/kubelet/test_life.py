"""The chart as users install it, on real kubelets: through upgrade, failures and removal, until it is gone."""

from lab.build.image import Image
from lab.cluster.cluster import Cluster
from lab.cluster.life import Life
from lab.cluster.release import Release
from tests.kubelet.conftest import Listener


def test_an_installation_lives_without_losing_a_packet(cluster: Cluster, image: Image, listener: Listener) -> None:
    life = Life(cluster, Release(cluster, image), listener)
    try:
        life.run()
    finally:
        listener.table(*life.table())
    assert [row.lost for row in life.rows] == [0] * len(life.rows)
    assert sum(row.sent for row in life.rows) > 1000
