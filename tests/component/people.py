"""`overlay-net` as people run it: a process with a kubeconfig, and its answer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.cluster.api_server import ApiServer


def overlay_net(
    kubeconfig: Path | ApiServer, command: str, *arguments: str, stdin: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command; an API server stands for the kubeconfig of its administrator."""
    file = kubeconfig.admin() if isinstance(kubeconfig, ApiServer) else kubeconfig
    program = [sys.executable, "-m", "overlay_net", command, f"--kubeconfig={file}", *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=120, input=stdin)


def answered(kubeconfig: Path | ApiServer, command: str, *arguments: str, code: int = 0) -> Any:
    """Return the answer of a command as JSON; fails the test if the exit code is another one."""
    result = overlay_net(kubeconfig, command, *arguments, "-o", "json")
    assert result.returncode == code, result.stderr + result.stdout
    return json.loads(result.stdout)
