"""The documentation: links resolve, every reason is described, and docs/architecture.md names what exists."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from lab.reference.conditions import condition_reasons, route_reasons

ROOT = Path(__file__).parent.parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SOURCES = [ast.parse(path.read_text()) for path in sorted((ROOT / "overlay_net").rglob("*.py"))]
REASON_ARGUMENT = {
    "CheckpointProblem": 0,
    "Condition": 2,
    "PoolUnusable": 0,
    "Problem": 0,
    "Refusal": 0,
    "Refused": 0,
    "_unknown": 2,
    "plan_without_address": 2,
    "reserved_condition": 2,
}
"""The position of the reason among the arguments of each call that makes one."""

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
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
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


def module_constants() -> Iterator[tuple[str, object]]:
    for node in (node for tree in SOURCES for node in tree.body):
        if isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Constant):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            yield ast.unparse(target), node.value.value


def reason_expressions(arguments: Mapping[str, int]) -> Iterator[ast.expr]:
    """The reason in each call of these names."""
    for node in (node for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.Call)):
        position = arguments.get(ast.unparse(node.func))
        if position is not None and position < len(node.args):
            yield node.args[position]


def returned_reasons() -> Iterator[ast.expr]:
    """The first of two values that are returned or chosen together: reason and message of a condition."""
    for node in (node for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.Return | ast.Assign)):
        if isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            yield node.value.elts[0]


def resolve_reasons(expressions: Iterable[ast.expr]) -> Iterator[str]:
    constants = dict(module_constants())
    for each in expressions:
        found = each.value if isinstance(each, ast.Constant) else constants.get(ast.unparse(each))
        if isinstance(found, str) and re.fullmatch("[A-Z]+[a-z]+[A-Za-z]*", found):
            yield found


def stated_conditions() -> Iterator[tuple[str, str, str]]:
    """Type, status and reason of the conditions for which the code names all three."""
    constants = dict(module_constants())

    def resolve(value: ast.expr) -> object:
        return value.value if isinstance(value, ast.Constant) else constants.get(ast.unparse(value))

    for node in (node for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if ast.unparse(node.func) == "Condition" and len(node.args) > 2 and isinstance(node.args[1], ast.Constant):
            kind, reason, status = resolve(node.args[0]), resolve(node.args[2]), node.args[1].value
            if isinstance(kind, str) and isinstance(reason, str):
                yield kind, "Unknown" if status is None else str(status), reason


DESCRIBED = {*(reason for _, _, reason in condition_reasons()), *route_reasons()}


@pytest.mark.parametrize(
    "reason", sorted({*resolve_reasons(reason_expressions(REASON_ARGUMENT)), *resolve_reasons(returned_reasons())})
)
def test_every_reason_of_a_condition_or_route_is_described(reason: str) -> None:
    assert reason in DESCRIBED


@pytest.mark.parametrize("condition", sorted(set(stated_conditions())), ids="/".join)
def test_every_condition_is_described_with_its_status(condition: tuple[str, str, str]) -> None:
    assert condition in condition_reasons()


def test_no_reason_is_described_that_does_not_exist() -> None:
    texts = {node.value for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert DESCRIBED - texts == set()


@pytest.mark.parametrize("reason", sorted(set(resolve_reasons(reason_expressions({"Announce": 0})))))
def test_every_reason_of_an_event_is_explained(reason: str) -> None:
    assert f"`{reason}`" in OPERATIONS.partition("## Events")[2]


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
