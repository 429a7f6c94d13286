"""The image: what it contains can be listed, although it has no package manager."""

import tarfile
from collections.abc import Iterator

import pytest

from lab.build.image import Image
from lab.cluster.prepare import prepare


@pytest.fixture(scope="module")
def names(request: pytest.FixtureRequest) -> set[str]:
    """The paths of all files in all layers."""
    if missing := prepare():
        pytest.skip(missing)
    image: Image = request.getfixturevalue("image")
    return {*_names(image)}


def _names(image: Image) -> Iterator[str]:
    with tarfile.open(image.archive) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                continue
            try:
                with tarfile.open(fileobj=content) as layer:
                    yield from layer.getnames()
            except tarfile.ReadError:
                # A manifest.
                continue


def test_scanners_find_the_packages_in_the_image(names: set[str]) -> None:
    debian = {name.rpartition("/")[2] for name in names if name.startswith("var/lib/dpkg/status.d/")}
    assert {"ca-certificates", "libc6", "libssl3"} <= debian
    assert "etc/os-release" in names
    python = {name.split("/")[-2] for name in names if name.endswith(".dist-info/METADATA")}
    assert {each.partition("-")[0] for each in python} >= {"aiohttp", "overlay_net", "pyroute2"}


def test_the_image_has_neither_shell_nor_package_manager(names: set[str]) -> None:
    programs = {name.rpartition("/")[2] for name in names if "/bin/" in f"/{name}" or "/sbin/" in f"/{name}"}
    assert programs
    assert programs & {"apt-get", "bash", "busybox", "dpkg", "pip", "sh"} == set()
