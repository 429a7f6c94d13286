"""A cluster of real kubelets, one for all tests of a file: it takes seconds to start, a minute on a busy machine."""

from collections.abc import Iterator

import pytest

from lab import vlan
from lab.cluster.cluster import Cluster
from lab.cluster.programs import find_cluster_programs
from lab.cluster.release import Release
from lab.cluster.requirements import missing
from lab.image import Image, find_image
from lab.private import is_private
from lab.traffic import serve


@pytest.fixture(scope="session")
def image() -> Image:
    return find_image()


@pytest.fixture(scope="module")
def cluster(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, Ready; an on-premise host that answers with the address that it sees."""
    if not is_private():
        pytest.skip("needs private network namespaces: run `python -m lab.private python -m pytest`")
    if lacking := missing():
        pytest.skip(lacking)
    directory = tmp_path_factory.mktemp("cluster")
    with Cluster(directory, find_cluster_programs(), [image.archive]) as started:
        started.start()
        with serve(started.vlan.on_premise, directory / "traffic.log"):
            yield started


@pytest.fixture(scope="module")
def release(cluster: Cluster, image: Image) -> Release:
    """The chart installed, and a route to the on-premise subnet."""
    release = Release(cluster, image)
    # Addresses of removed nodes wait for minutes in production.
    release.install(controller={"settings": {"release_after": "2s", "fence_after": "4s"}})
    release.add_route()
    return release


@pytest.fixture
def a_node() -> str:
    return vlan.NODE_NAMES[0]
