"""A release: all files name one version, notes are from the changelog, and links lead to the publisher."""

import shutil
from pathlib import Path

import pytest

from lab.release.changelog import KINDS, Section, find_section, sections
from lab.release.links import Links
from lab.release.versions import find_problems, read_version

ROOT = Path(__file__).parent.parent.parent
VERSION = read_version(ROOT)
PUBLISHER = Links("https://git.example.com/team/overlay-net", "1.2.3")
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.3] - 2026-01-31

What it is.

### Changed

#### Addresses

- A change of
  two lines, see [a page](docs/a.md).
- Another one.

### Upgrading

- Do this.

## [1.2.2] - 2026-01-01

### Fixed

- A bug.
"""


def test_all_files_name_the_same_version() -> None:
    assert [*find_problems(ROOT)] == []


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The files that name a version, with nothing unreleased."""
    for name in ("overlay_net/__init__.py", "charts/overlay-net/Chart.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG.replace("1.2.3", VERSION))
    return tmp_path


def test_a_release_with_its_tag_has_no_problem(released: Path) -> None:
    assert [*find_problems(released, f"v{VERSION}")] == []


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (
            "overlay_net/__init__.py",
            VERSION,
            f"{VERSION}rc1",
            f"overlay_net.__version__ is {VERSION}rc1: must be X.Y.Z",
        ),
        ("overlay_net/__init__.py", VERSION, "9.9.9", f"the tag is v{VERSION}: must be v9.9.9"),
        ("charts/overlay-net/Chart.yaml", f"\nversion: {VERSION}", "\nversion: 9.9.9", f"must be {VERSION}"),
        ("charts/overlay-net/Chart.yaml", f"appVersion: {VERSION}", "appVersion: 9.9.9", "has appVersion 9.9.9"),
        ("CHANGELOG.md", f"[{VERSION}]", "[9.9.9]", "CHANGELOG.md has 9.9.9 as its newest release"),
        ("CHANGELOG.md", " - 2026-01-31", "", f"write ## [{VERSION}] - YYYY-MM-DD"),
        ("CHANGELOG.md", "[Unreleased]\n", "[Unreleased]\n\n### Fixed\n\n- A bug.\n", "has unreleased changes"),
    ],
)
def test_a_release_whose_files_disagree_is_refused(released: Path, file: str, old: str, new: str, problem: str) -> None:
    text = (released / file).read_text()
    assert old in text
    (released / file).write_text(text.replace(old, new, 1))
    assert problem in "\n".join(find_problems(released, f"v{VERSION}"))


def test_changes_have_their_kind_and_are_plain_text() -> None:
    assert [*find_section("1.2.3", CHANGELOG).changes()] == [
        ("changed", "A change of two lines, see a page."),
        ("changed", "Another one."),
    ]


def test_a_version_without_a_section_is_reported() -> None:
    with pytest.raises(LookupError, match=r"no section 2\.0\.0"):
        find_section("2.0.0", CHANGELOG)


@pytest.mark.parametrize("section", sections((ROOT / "CHANGELOG.md").read_text()), ids=lambda section: section.version)
def test_every_entry_of_the_changelog_is_below_a_kind_of_change(section: Section) -> None:
    prose = section.text.partition("### ")[0]
    assert not prose.startswith("- ")
    assert "\n- " not in prose
    assert {kind for kind, _ in section.changes()} <= {kind.lower() for kind in KINDS}


@pytest.mark.parametrize(
    ("markdown", "absolute"),
    [
        ("[a](docs/a.md#b)", "[a](https://git.example.com/team/overlay-net/blob/v1.2.3/docs/a.md#b)"),
        ("[a](../../docs/a.md)", "[a](https://git.example.com/team/overlay-net/blob/v1.2.3/docs/a.md)"),
        ("![a](docs/a.svg)", "![a](https://git.example.com/team/overlay-net/raw/v1.2.3/docs/a.svg)"),
        ("[a](#b)", "[a](#b)"),
        ("[a](https://example.com/a.md)", "[a](https://example.com/a.md)"),
        ("```\n[a](docs/a.md)\n```", "```\n[a](docs/a.md)\n```"),
    ],
)
def test_links_of_a_page_lead_to_the_files_of_the_release(markdown: str, absolute: str) -> None:
    source = "charts/overlay-net/README.md" if "../" in markdown else "README.md"
    assert PUBLISHER.make_absolute(markdown, source) == absolute


def test_without_a_publisher_there_are_no_urls() -> None:
    assert Links.read("1.2.3", {"DOCS_URL": "https://docs.example.com"}) is None


def test_the_documentation_is_its_site_or_else_the_folder_of_the_release() -> None:
    environment = {"PROJECT_URL": "https://git.example.com/team/overlay-net/"}
    without, given = (Links.read("1.2.3", environment | {"DOCS_URL": url}) for url in ("", "https://docs.example.com"))
    assert without == PUBLISHER
    assert without.of_project()["Documentation"].endswith("/overlay-net/blob/v1.2.3/docs")
    assert given is not None
    assert given.of_project()["Documentation"] == "https://docs.example.com"
