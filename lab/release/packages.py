"""Builds sdist, wheel and chart of a release, from a copy of the sources with the links of the publisher."""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.build.assets import find_programs
from lab.build.go_build import print_progress, watch
from lab.release.changelog import find_section
from lab.release.links import Links
from lab.release.versions import read_version

ROOT = Path(__file__).parent.parent.parent
CHART = Path("charts", "overlay-net")
PYTHON = [sys.executable, "-m"]
PYTHON_SOURCES = ("CHANGELOG.md", "LICENSE", "README.md", "overlay_net", "pyproject.toml")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")


@dataclass(frozen=True, slots=True)
class Publisher:
    """What only the publisher of a release knows."""

    links: Links | None = None
    image: str = ""
    """Repository of the image, without a tag; if empty, users of the chart must set it."""


def build(target: Path, publisher: Publisher, root: Path = ROOT) -> list[Path]:
    """Build and check sdist, wheel and chart in the new or empty folder ``target``. Raises BuildFailed."""
    (helm,) = find_programs(["helm"], print_progress).values()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder)
        copy_sources(sources, publisher, root)
        # Without isolation: the build backend is installed here, in its locked version.
        _run("building sdist and wheel", PYTHON, "build", "--no-isolation", f"--outdir={target}", str(sources))
        repository = "--set=image.repository=example.com/overlay-net"
        _run("checking the chart", [str(helm)], "lint", "--strict", str(sources / CHART), repository)
        _run("packing the chart", [str(helm)], "package", str(sources / CHART), f"--destination={target}")
    built = sorted(target.iterdir())
    _run("checking sdist and wheel", PYTHON, "twine", "check", "--strict", *map(str, target.glob("overlay_net-*")))
    return built


def _run(what: str, program: list[str], *arguments: str) -> None:
    watch([*program, *arguments], ROOT, os.environ, what, print_progress)


def copy_sources(target: Path, publisher: Publisher, root: Path = ROOT) -> None:
    """What the packages are built from, below ``target``."""
    for name in (*PYTHON_SOURCES, str(CHART)):
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=IGNORED)
        else:
            shutil.copy2(root / name, target)
    version = read_version(root)
    section = find_section(version, (root / "CHANGELOG.md").read_text())
    chart = target / CHART
    metadata = yaml.safe_load((chart / "Chart.yaml").read_text())
    describe_chart(metadata, publisher, [*section.changes()])
    (chart / "Chart.yaml").write_text(yaml.safe_dump(metadata, sort_keys=False, width=1000))
    if publisher.image:
        set_image(chart, publisher.image)
    if links := publisher.links:
        with (target / "pyproject.toml").open("a") as file:
            file.writelines(
                ["\n[project.urls]\n", *(f'{name} = "{url}"\n' for name, url in links.of_project().items())]
            )
        for page in (Path("README.md"), Path("CHANGELOG.md"), CHART / "README.md"):
            text = (target / page).read_text()
            (target / page).write_text(links.make_absolute(text, page.as_posix()))


def set_image(chart: Path, image: str) -> None:
    """Make ``image`` the default of image.repository, also in the table of values."""
    for file, empty, full in (
        ("values.yaml", '\n  repository: ""\n', f"\n  repository: {image}\n"),
        ("README.md", '\n| `image.repository` | `""` |', f'\n| `image.repository` | `"{image}"` |'),
    ):
        text = (chart / file).read_text()
        assert text.count(empty) == 1, file
        (chart / file).write_text(text.replace(empty, full))


def describe_chart(metadata: dict[str, Any], publisher: Publisher, changes: list[tuple[str, str]]) -> None:
    """Complete the content of Chart.yaml, with the annotations of Artifact Hub."""
    annotations = metadata["annotations"]
    annotations["artifacthub.io/changes"] = yaml.safe_dump(
        [{"kind": kind, "description": text} for kind, text in changes], sort_keys=False, width=1000
    )
    if publisher.image:
        images = yaml.safe_load(annotations["artifacthub.io/images"])
        images[0]["image"] = f"{publisher.image}:{metadata['appVersion']}"
        annotations["artifacthub.io/images"] = yaml.safe_dump(images, sort_keys=False)
    if links := publisher.links:
        metadata["home"] = links.home
        metadata["sources"] = [links.home]
        metadata["icon"] = links.page("docs/assets/logo.svg")
        annotations["artifacthub.io/links"] = yaml.safe_dump(
            [{"name": name, "url": url} for name, url in links.of_project().items()], sort_keys=False
        )
