"""The documentation has no command that no test runs, except those that are listed with the reason."""

import re
import shlex

import pytest
import yaml

from tests.docs.blocks import ROOT, Command, SavedFile, find_pages, read_blocks, read_commands, read_steps
from tests.docs.pages import CLUSTERS, NotRun, find_not_run, find_run_pages, reason_not_to_run
from tests.docs.shapes import difference

PROGRAMS = (
    *("kubectl", "oc", "helm", "overlay-net", "argocd", "flux", "docker", "podman", "buildah", "kind", "cosign"),
    *("ip", "conntrack", "sysctl", "nft", "iptables", "ping", "curl"),
    *("nox", "uv", "pip", "pipx", r"python\d?", "git", "gh", "cp", "export"),
)
PROGRAM = re.compile(rf"\s*(\$ )?({'|'.join(PROGRAMS)})\s(?!.*\[OPTIONS\])")
"""A line that looks like a command; the synopses of the command line have [OPTIONS]."""
PAGES = find_pages()
COMMANDS = [command for page in PAGES for command in read_commands(page)]

# The fields of the configuration of kind, version v1alpha4.
CLUSTER_FIELDS = {"kind", "apiVersion", "name", "nodes", "networking", "featureGates", "runtimeConfig"} | {
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
    "containerdConfigPatches",
    "containerdConfigPatchesJSON6902",
}
NODE_FIELDS = {"role", "image", "labels", "extraMounts", "extraPortMappings"} | {
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
}


def test_commands_that_no_test_runs_have_a_reason() -> None:
    pages = find_run_pages()
    assert [
        f"{each.where}: {each.text}" for each in COMMANDS if each.page not in pages and not reason_not_to_run(each)
    ] == []


@pytest.mark.parametrize("entry", find_not_run(), ids=lambda entry: entry.command)
def test_a_reason_not_to_run_a_command_is_about_a_command(entry: NotRun) -> None:
    assert any(map(entry.matches, COMMANDS))
    assert entry.reason.endswith(".")


@pytest.mark.parametrize("path", find_run_pages())
def test_pages_that_tests_run_have_commands(path: str) -> None:
    page = find_run_pages()[path]
    assert page.cluster in CLUSTERS
    assert not all(map(reason_not_to_run, read_commands(path)))
    assert all(any(command.text.startswith(each) for command in read_commands(path)) for each in page.failing)


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_in_blocks_that_tests_read(page: str) -> None:
    """Neither indented nor in a block of another language."""
    lines = (ROOT / page).read_text().splitlines()
    blocks = list(read_blocks(page))
    read = {
        block.line + number
        for block in blocks
        if block.language in ("sh", "console") or block.title
        for number in range(len(block.text.splitlines()))
    }
    fenced = {block.line + number for block in blocks for number in range(len(block.text.splitlines()))}
    for number, line in enumerate(lines, start=1):
        if number in fenced - read or line.startswith("    "):
            assert number in read or not PROGRAM.match(line), f"{page}:{number}: {line}"
    assert {block.language for block in blocks} <= {"sh", "console", "yaml", "text", "mermaid", ""}


def test_the_configuration_of_kind_has_fields_of_kind() -> None:
    steps = [step for page in PAGES for step in read_steps(page)]
    configurations = {
        step.name: yaml.safe_load(step.text)
        for step in steps
        if isinstance(step, SavedFile) and "kind.x-k8s.io" in step.text
    }
    assert configurations
    for configuration in configurations.values():
        assert (configuration["kind"], configuration["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
        assert configuration.keys() <= CLUSTER_FIELDS
        for node in configuration["nodes"]:
            assert node.keys() <= NODE_FIELDS
            assert node["role"] in ("control-plane", "worker")
    created = [each.text.split() for each in COMMANDS if each.text.startswith("kind create cluster")]
    assert {words[words.index("--config") + 1] for words in created} <= configurations.keys()


def test_images_are_built_from_files_of_the_repository() -> None:
    for words in (shlex.split(each.text) for each in COMMANDS if each.text.startswith("docker build ")):
        assert (ROOT / words[words.index("--file") + 1]).is_file()


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("NODE  AGE\nn1    5s", "NODE      AGE\nn1        12m3s\n", True),
        ("NODE  AGE\nn1    5s", "NODE      AGE\n", False),
        ("NODE  AGE\nn1    5s", "NODE      AGE\nn2        5s\n", False),
        ("192.168.100.11", "192.168.100.12", True),
        ("192.168.100.11", "192.168.101.11", False),
        ("via 192.168.100.1", "via 192.168.100.2", False),
        ("first\n...\nlast", "first\nlast", True),
        ("first\n...\nlast", "first\n1\n2\nlast", True),
        ("first\n...", "second", False),
        ("", "error", False),
    ],
)
def test_what_is_printed_has_the_shape_of_what_is_shown(shown: str, printed: str, same: bool) -> None:
    assert (difference(shown, printed) == "") == same


def test_commands_are_read_with_all_of_their_lines() -> None:
    found: list[Command] = read_commands("docs/tutorial.md")
    assert [each.text.splitlines()[-1].strip() for each in found if each.text.startswith("helm install")] == [
        "--set image.repository=localhost/overlay-net --wait"
    ]
