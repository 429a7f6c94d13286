"""Which cluster runs the commands of each page, and which commands no test can run: pages.yaml and not_run.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.docs.blocks import Command

FOLDER = Path(__file__).parent
CLUSTERS = ("api-server", "controller", "phpipam", "kubelets", "kind")


@dataclass(frozen=True, slots=True)
class Page:
    path: str
    cluster: str
    """One of CLUSTERS."""
    objects: tuple[dict[str, Any], ...]
    """What the cluster has before the first command."""
    replace: Mapping[str, str]
    failing: tuple[str, ...]
    """Beginnings of commands whose exit code is not 0, as the page states."""
    logs: str
    """The log of every pod, where no kubelet runs one."""

    def fails(self, command: Command) -> bool:
        return command.text.startswith(self.failing)


@dataclass(frozen=True, slots=True)
class NotRun:
    command: str
    """Its beginning."""
    reason: str
    page: str
    """Empty: any page."""

    def matches(self, command: Command) -> bool:
        return command.text.startswith(self.command) and self.page in ("", command.page)


@cache
def find_run_pages() -> dict[str, Page]:
    found = yaml.safe_load((FOLDER / "pages.yaml").read_text())
    return {path: _parse(path, **entry) for path, entry in found.items()}


def _parse(
    path: str,
    cluster: str,
    data: Sequence[str] = (),
    replace: Mapping[str, str] | None = None,
    fails: tuple[str, ...] = (),
    logs: str = "",
) -> Page:
    objects = [each for name in data for each in yaml.safe_load_all((FOLDER / "data" / name).read_text())]
    return Page(path, cluster, tuple(filter(None, objects)), replace or {}, tuple(fails), logs)


def pages_on(cluster: str) -> list[Page]:
    return [page for page in find_run_pages().values() if page.cluster == cluster]


@cache
def find_not_run() -> tuple[NotRun, ...]:
    entries = yaml.safe_load((FOLDER / "not_run.yaml").read_text())
    return tuple(NotRun(each["command"], each["reason"], each.get("page", "")) for each in entries)


def reason_not_to_run(command: Command) -> str:
    """Why no test can run it; an empty text if one does."""
    return next((each.reason for each in find_not_run() if each.matches(command)), "")
