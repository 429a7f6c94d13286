"""The commands of pages that need kernels and kubelets, on the cluster that the tests of this folder share."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from lab.build.image import Image
from lab.cluster.cluster import Cluster
from lab.product import CHART
from tests.docs.pages import Page, pages_on
from tests.docs.shell import Shell
from tests.kubelet.kind import kind_cluster

IMAGES = ("localhost/overlay-net:0.1.0", "registry.example.com/overlay-net:0.1.0")
"""What the documentation calls the image."""


@pytest.fixture
def shell(page: Page, cluster: Cluster, image: Image, tmp_path: Path) -> Iterator[Shell]:
    """The nodes have the image. What stays after the last command of a page is deleted."""
    for node, name in product(cluster.nodes.values(), IMAGES):
        node.ctr("images", "tag", "--force", f"{image.repository}:{image.tag}", name)
    yield Shell(tmp_path, cluster.control_plane, page.replace)
    cluster.control_plane.kubectl("delete", "-f", str(CHART / "crds"))
    cluster.control_plane.kubectl("delete", "namespace", "overlay-net")


@pytest.mark.parametrize("page", pages_on("kind"), ids=lambda page: page.path)
def test_commands_of_a_page_about_kind(page: Page, shell: Shell, cluster: Cluster, tmp_path: Path) -> None:
    with kind_cluster(shell, cluster, tmp_path):
        shell.follow(page)


@pytest.mark.parametrize("page", pages_on("kubelets"), ids=lambda page: page.path)
def test_commands_of_a_page_about_an_installation(page: Page, shell: Shell) -> None:
    shell.follow(page)
