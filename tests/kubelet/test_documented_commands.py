"""The commands of pages that need kernels and kubelets, on the cluster that the tests of this folder share."""

from pathlib import Path

import pytest

from lab.build.image import Image
from lab.cluster.cluster import Cluster
from lab.product import CHART
from tests.docs.pages import Page, pages_on
from tests.docs.shell import Shell
from tests.kubelet.kind import kind_cluster


@pytest.mark.parametrize("page", pages_on("kubelets"), ids=lambda page: page.path)
def test_commands_of_a_page_run_in_order_and_print_what_it_shows(
    page: Page, cluster: Cluster, image: Image, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, cluster.control_plane, page.replace)
    with kind_cluster(shell, cluster, image, tmp_path):
        shell.follow(page)
    # They stay after an uninstall; other tests begin without.
    cluster.control_plane.kubectl("delete", "-f", str(CHART / "crds"))
