"""The documentation: links lead somewhere, and docs/architecture.md names files and functions that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/README.md")], key=lambda path: path.as_posix()
)


def anchors(page: Path) -> Iterator[str]:
    """The anchor of each heading, as GitHub derives it."""
    for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_decision_records_are_numbered_and_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    for record in sorted(folder.glob("0*.md")):
        number = int(record.name[:4])
        text = record.read_text()
        assert text.startswith(f"# {number}. ")
        title = text.splitlines()[0].partition(". ")[2]
        assert f"| [{number}]({record.name}) | {title} |" in index
        assert re.search(r"^Status: \w+.* · Date: \d{4}-\d\d-\d\d$", text, re.MULTILINE)
        for part in ("Context", "Decision", "Alternatives", "Consequences"):
            assert f"**{part}.**" in text, part


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_/]+\.py)`", ARCHITECTURE))))
def test_architecture_names_existing_files(name: str) -> None:
    assert (ROOT / "overlay_net" / name).is_file()


@pytest.mark.parametrize(("name", "symbol"), re.findall(r"`([a-z_/]+\.py)` `(\w+)`", ARCHITECTURE))
def test_architecture_names_existing_functions_and_classes(name: str, symbol: str) -> None:
    tree = ast.parse((ROOT / "overlay_net" / name).read_text())
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert symbol in {node.name for node in tree.body if isinstance(node, definitions)}


@pytest.mark.parametrize("package", re.findall(r"^\| `((?:overlay_net|lab)/[a-z_/]+)` \|", ARCHITECTURE, re.MULTILINE))
def test_architecture_names_existing_packages(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()


def test_architecture_lists_every_package() -> None:
    listed = set(re.findall(r"^\| `((?:overlay_net|lab)/[a-z_/]+)` \|", ARCHITECTURE, re.MULTILINE))
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for top in ("overlay_net", "lab")
        for path in (ROOT / top).rglob("__init__.py")
    }
    parents = {"overlay_net", "overlay_net/adapters", "overlay_net/domain", "lab"}
    assert listed == packages - parents


@pytest.mark.parametrize(
    "journey", re.split(r"^### ", ARCHITECTURE, flags=re.MULTILINE)[1:], ids=lambda text: text.splitlines()[0]
)
def test_architecture_counts_the_files_of_a_journey(journey: str) -> None:
    rows = re.findall(r"^\| \d+ \| (.*?) \|", journey, re.MULTILINE)
    files = {name for row in rows for name in re.findall(r"`([a-z_/]+\.py)`", row)}
    if rows[0].startswith("steps 1 to 6"):
        # Part of those steps.
        files.discard("controller/event_routes.py")
    assert f"\n{len(files)} files," in journey
