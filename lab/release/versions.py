"""Whether all files and the tag of a release name the same version."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from lab.release.changelog import UNRELEASED, Section, sections

RELEASE = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


def read_version(root: Path) -> str:
    """``overlay_net.__version__``, from which Python packages get theirs."""
    found = re.search(r'^__version__ = "(.*)"$', (root / "overlay_net" / "__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def find_problems(root: Path, tag: str | None = None) -> Iterator[str]:
    """One line for each place that does not have the version of the package; ``tag`` is that of a release."""
    version = read_version(root)
    if not RELEASE.fullmatch(version):
        # Python and Helm write other versions differently.
        yield f"overlay_net.__version__ is {version}: must be X.Y.Z"
    chart = yaml.safe_load((root / "charts" / "overlay-net" / "Chart.yaml").read_text())
    for field in ("version", "appVersion"):
        if chart[field] != version:
            yield f"Chart.yaml has {field} {chart[field]}: must be {version}"
    found = sections((root / "CHANGELOG.md").read_text())
    released = [section for section in found if section.version != UNRELEASED]
    newest = released[0].version if released else "none"
    if newest != version:
        yield f"CHANGELOG.md has {newest} as its newest release: must be {version}"
    if tag is not None:
        if tag != f"v{version}":
            yield f"the tag is {tag}: must be v{version}"
        yield from _unfinished(found, version)


def _unfinished(found: list[Section], version: str) -> Iterator[str]:
    for section in found:
        if section.version == UNRELEASED and [*section.changes()]:
            yield f"CHANGELOG.md has unreleased changes: move them to the section {version}"
        if section.version == version and not section.date:
            yield f"CHANGELOG.md has no date for {version}: write ## [{version}] - YYYY-MM-DD"
