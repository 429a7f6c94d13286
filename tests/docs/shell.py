"""Types the commands of a page in order, and compares what they print with what the page shows."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.cluster.api_server import ApiServer
from lab.product import CHART
from tests.docs.blocks import ROOT, Command, SavedFile, read_steps
from tests.docs.pages import Page, reason_not_to_run
from tests.docs.shapes import difference

READS = re.compile(
    r"kubectl( (-n|--namespace) \S+)? (get|describe) "
    r"|(kubectl )?overlay-net (status|routes|plan|doctor)\b"
    r"|(docker exec \S+ )?(ip( -\S+)* (route|address|link|rule) (show|get)|bash -c 'cat )"
)
"""Commands that are repeated until they print what the page shows, as a reader does."""
PATIENCE = 60.0
TIMEOUT = 120.0


@dataclass
class Shell:
    """A checkout with a values file of the reader, and programs on its PATH that stand in for others."""

    folder: Path
    api_server: ApiServer
    replace: Mapping[str, str] = field(default_factory=dict)
    """What the page calls by another name than this cluster."""

    def __post_init__(self) -> None:
        self._programs = self.folder / "bin"
        self._programs.mkdir()
        self.work = self.folder / "overlay_net"
        self.work.mkdir()
        for name in ("charts", "Containerfile", "docs"):
            (self.work / name).symlink_to(ROOT / name)
        (self.work / "values.yaml").write_text((CHART / "examples" / "in-cluster-pool.yaml").read_text())
        assets = self.api_server.assets
        self.overlay_net = shlex.join([sys.executable, "-m", "overlay_net"])
        """The command that runs the product from the repository."""
        for program in ("overlay-net", "kubectl-overlay_net"):
            self.stand_in(program, f'exec {self.overlay_net} "$@"')
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(self._programs), *_folders(assets.kubectl, assets.helm), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "KUBECONFIG": str(self.api_server.admin()),
            "KUBECACHEDIR": str(self.folder / "kubectl"),
            "COLUMNS": "120",
            **{f"HELM_{kind}_HOME": str(self.folder / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
        }

    def stand_in(self, program: str, script: str) -> None:
        """Use this script of a POSIX shell for a program from now on."""
        file = self._programs / program
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def follow(self, page: Page) -> None:
        """Follow the page. Raises AssertionError with the place in the page."""
        read = set[str]()
        for step in read_steps(page.path):
            if isinstance(step, SavedFile):
                (self.work / step.name).write_text(self._translate(step.text))
            elif not reason_not_to_run(step) and (step.output is not None or step.text not in read):
                self._type(step, fails=page.fails(step))
                # Nothing new is learnt from the same command without an expected output.
                read |= {step.text} if READS.match(step.text) else set()

    def _type(self, command: Command, *, fails: bool) -> None:
        deadline = time.monotonic() + (PATIENCE if READS.match(command.text) else 0.0)
        while problem := self._problem(command, fails=fails):
            if time.monotonic() > deadline:
                raise AssertionError(f"{command.where}: {command.text}\n{problem}")
            time.sleep(0.1)

    def _problem(self, command: Command, *, fails: bool) -> str:
        """What is different from what the page promises; an empty text if nothing is."""
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", self._translate(command.text)],
            cwd=self.work,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        printed = _substitute(done.stdout, {there: here for here, there in self.replace.items()})
        if bool(done.returncode) != fails:
            return f"exit code {done.returncode}\n{printed}"
        return "" if command.output is None else difference(command.output, printed)

    def _translate(self, text: str) -> str:
        return _substitute(text, self.replace)


def _folders(*programs: Path) -> Sequence[str]:
    return [str(each.parent) for each in programs]


def _substitute(text: str, names: Mapping[str, str]) -> str:
    """Replace whole names, the longest first."""
    if not names:
        return text
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<![\w.-])({pattern})(?![\w-])", lambda found: names[found[0]], text)
