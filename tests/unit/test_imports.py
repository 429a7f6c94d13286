"""The contracts of imports in pyproject.toml refuse what they are there to refuse: each case breaks one in a copy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the product and of its contracts."""
    shutil.copytree(ROOT / "overlay_net", tmp_path / "overlay_net", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(checkout: Path) -> list[str]:
    """The names of the contracts that import-linter reports as broken."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    result = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    assert "Contracts:" in result.stdout, result.stdout + result.stderr
    broken = re.findall(r"^(.+) BROKEN(?: \(\d+ ignored imports?\))?$", result.stdout, re.MULTILINE)
    assert bool(broken) == bool(result.returncode)
    return broken


def test_the_product_keeps_every_contract(checkout: Path) -> None:
    assert broken_contracts(checkout) == []


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("domain/kernel/plan.py", "from overlay_net.settings.agent import AgentSettings", "Imports point one way"),
        ("domain/routes/merge.py", "from overlay_net.settings.loading import load", "Imports point one way"),
        ("ops/logs.py", "from overlay_net.settings.loading import load", "Imports point one way"),
        ("model/node.py", "from overlay_net.domain.routes import merge", "Imports point one way"),
        ("runtime/store.py", "from overlay_net.domain.kernel import plan", "Imports point one way"),
        ("controller/caches.py", "from overlay_net.agent import reconciler", "Imports point one way"),
        (
            "domain/allocation/node_plan.py",
            "from overlay_net.domain.routes.merge import merge_routes",
            "Each package of domain decides on its own",
        ),
        (
            "domain/status/overview.py",
            "from overlay_net.domain.kernel import report",
            "Each package of domain decides on its own",
        ),
        ("adapters/ping.py", "from overlay_net.adapters import netlink", "One foreign system per adapter"),
        (
            "agent/apply.py",
            "from overlay_net.agent.reconciler import NodeAgent",
            "The agent's wiring is on top of its parts",
        ),
        (
            "controller/node_reconciler.py",
            "from overlay_net.controller.run import run",
            "The controller's wiring is on top of its reconcilers",
        ),
        (
            "adapters/netlink/bulk/codec.py",
            "from overlay_net.adapters.netlink.bulk.routes import Routes",
            "What is packed by hand goes from calls over messages to bytes",
        ),
        ("domain/kernel/plan.py", "import pydantic", "Decisions are pure"),
        (
            "adapters/kube/kubeconfig.py",
            "from overlay_net.settings.values import Duration",
            "The agent runs without the library that validates settings",
        ),
        ("adapters/netlink/kernel.py", "import pyroute2", "pyroute2 is imported in one place"),
        ("model/pool.py", "import asyncio", "Decisions are pure"),
        ("agent/run.py", "import rich", "Only the commands for people need the extra"),
        ("cli/crds.py", "from overlay_net.cli.status import status", "Only the commands for people need the extra"),
    ],
)
def test_an_import_against_the_rules_breaks_its_contract(checkout: Path, module: str, line: str, contract: str) -> None:
    file = checkout / "overlay_net" / module
    file.write_text(f"{file.read_text()}\n{line}\n")
    assert contract in broken_contracts(checkout)


def test_a_new_package_without_a_layer_breaks_the_contract(checkout: Path) -> None:
    (checkout / "overlay_net" / "extras").mkdir()
    (checkout / "overlay_net" / "extras" / "__init__.py").write_text("")
    assert "Imports point one way" in broken_contracts(checkout)
