"""What the lab builds: programs that its go.mod files pin, by one command, with progress and reasons in few lines."""

import re
from pathlib import Path

import pytest

from lab.build import go_build
from lab.build.assets import MODULES, RECIPES, Recipe, find_programs
from lab.build.go_build import BuildFailed, watch


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.program)
def test_every_program_is_a_tool_with_a_version_of_its_module(recipe: Recipe) -> None:
    text = (MODULES / recipe.project.module / "go.mod").read_text()
    # A program that is in the module itself needs no line for a tool.
    assert recipe.package in re.findall(r"^(?:module |tool |\t)(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"v\d+\.\d+\.\d+", recipe.project.version)


def test_programs_of_the_given_directory_are_used_instead_of_built_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    names = ("kube-apiserver", "etcd")
    for name in names:
        (tmp_path / name).touch()
    assert find_programs(names) == {name: tmp_path / name for name in names}


GO = """#!/bin/sh
echo "$*" >> "${0%/*}/calls"
case $1 in
env) echo go1.99.0 ;;
list) printf 'go: downloading example.com/module v1.0.0\\nfirst\\nsecond\\n' ;;
build)
  while [ "$1" != -o ]; do shift; done
  folder=$2
  shift 2
  for package; do
    program=${package%/v3}
    echo "$package" > "$folder/${program##*/}"
  done ;;
esac
"""
"""Lists and builds as Go does: a program has the name of its folder, unless that is a version."""


def test_one_command_builds_what_is_missing_and_a_second_run_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    (tmp_path / "go").write_text(GO)
    (tmp_path / "go").chmod(0o755)
    progress = list[str]()
    names = ("etcd", "kubelet", "helm", "ctr")
    found = find_programs(names, progress.append)
    assert [path.read_text().strip() for path in found.values()] == [RECIPES[name].package for name in names]
    assert any("kubernetes" in line and "kubelet" in line for line in progress)
    progress.clear()
    assert find_programs(names, progress.append) == found
    assert not progress
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["env", "list", "build"]


def test_a_failed_command_reports_its_errors_without_the_packages_that_were_built(tmp_path: Path) -> None:
    script = "printf 'example.com/first\\n# example.com/second\\nmain.go:7:2: undefined: x\\n'; exit 1"
    with pytest.raises(BuildFailed, match=r"ended with 1:\n# example.com/second\nmain.go:7:2: undefined: x$"):
        watch(["sh", "-c", script], tmp_path, {}, "building second", lambda text: None)


def test_progress_counts_the_packages_that_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go_build, "PROGRESS_INTERVAL", 0.05)
    progress, seen = list[str](), tmp_path / "seen"

    def report(text: str) -> None:
        progress.append(text)
        if "2 of 4 packages" in text:
            seen.touch()

    # It goes on once its two packages were reported.
    script = f"echo first; echo second; until [ -e {seen} ]; do sleep 0.01; done"
    assert watch(["sh", "-c", script], tmp_path, {"PATH": "/usr/bin:/bin"}, "building", report, 4) == [
        "first",
        "second",
    ]
    assert progress[0] == "building"
    assert progress[-1].startswith("building: done in ")
