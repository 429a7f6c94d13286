"""Builds the site with mkdocs, and takes each warning as an error."""

import os
import subprocess
import sys
from pathlib import Path

from lab.build.go_build import BuildFailed

ROOT = Path(__file__).parent.parent.parent


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> None:
    """Write the site to a folder; raises BuildFailed with what mkdocs printed."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]
    # Without the variable, the theme prints on each build which programs its authors recommend.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, f"--config-file={config}", f"--site-dir={folder}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    # With --quiet, mkdocs would not count warnings.
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("INFO ")]
    if done.returncode or complaints:
        raise BuildFailed("\n".join(complaints) or f"mkdocs ended with {done.returncode}")
