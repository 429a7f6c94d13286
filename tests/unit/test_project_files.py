"""Workflows, forms and configurations of the repository: valid, and what they name exists."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXTS = [*WORKFLOWS, *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(GITHUB.glob("*.md"))]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", FORMS),
        ("github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("renovate", [ROOT / "renovate.json"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_for_the_host_of_the_repository_match_their_schema(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", f"--builtin-schema=vendor.{schema}", *map(str, files)]
    checked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_workflows_have_few_permissions_and_pinned_actions() -> None:
    command = [
        str(Path(sys.executable).with_name("zizmor")),
        "--offline",
        "--no-progress",
        "--persona=pedantic",
        str(GITHUB),
    ]
    checked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit_and_names_its_version(workflow: Path) -> None:
    for action in re.findall(r"uses: (?!\./)(.*)", workflow.read_text()):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_one_version_of_each_action_is_used() -> None:
    used = {action for path in WORKFLOWS for action in re.findall(r"uses: (?!\./)(.*)", path.read_text())}
    assert len(used) == len({action.partition("@")[0] for action in used})


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_nox_session_and_module_that_is_named_exists(text: Path) -> None:
    functions = {
        node.name for node in ast.parse((ROOT / "noxfile.py").read_text()).body if isinstance(node, ast.FunctionDef)
    }
    content = text.read_text()
    named = set(re.findall(r"nox -s ([a-z0-9_]+)", content))
    assert named <= functions
    for module in re.findall(r"python3? -m ((?:lab|overlay_net)[\w.]*\w)", content):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((GITHUB / "workflows" / name).read_text())
    return loaded


def test_unit_tests_run_on_every_python_that_the_package_names() -> None:
    prefix = "Programming Language :: Python :: 3."
    named = [each.removeprefix(prefix) for each in PYPROJECT["project"]["classifiers"] if each.startswith(prefix)]
    matrix = workflow("checks.yml")["jobs"]["unit"]["strategy"]["matrix"]["python"]
    assert matrix == [f"3.{minor}" for minor in named]


def test_the_uploaded_site_is_the_one_that_is_built() -> None:
    paths = [step["with"]["path"] for step in workflow("checks.yml")["jobs"]["docs"]["steps"] if "upload" in str(step)]
    assert paths == re.findall(r"^site_dir: (\S+)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)


def test_a_release_publishes_only_what_has_passed_the_checks() -> None:
    jobs = workflow("release.yml")["jobs"]

    def needed(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else {*needs}
        return direct.union(*(needed(each) for each in direct))

    publishing = {name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()}
    assert publishing == {"image", "chart", "artifacthub", "pypi", "site", "release"}
    assert [name for name in publishing if not {"version", "checks"} <= needed(name)] == []


def test_pre_commit_installs_the_versions_of_the_lock_file() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    pins = [
        pin for repo in config["repos"] for hook in repo["hooks"] for pin in hook.get("additional_dependencies", ())
    ]
    locked = (ROOT / "constraints.txt").read_text().splitlines()
    assert [pin for pin in pins if pin not in locked and not pin.startswith("pre-commit-hooks==")] == []
    assert any(pin.startswith("ruff==") for pin in pins)


@pytest.mark.parametrize(
    ("subject", "accepted"),
    [
        ("fix: a reason", True),
        ("feat(chart)!: a reason", True),
        ("fix:no space", False),
        ("Merge branch", False),
        (f"fix: {'x' * 68}", False),
    ],
)
def test_subjects_of_commits_are_conventional_and_short(subject: str, accepted: bool) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    (pattern,) = [hook["entry"] for hook in hooks if hook["id"] == "subject"]
    assert bool(re.search(pattern, subject)) is accepted
