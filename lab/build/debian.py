"""Programs from Debian packages, unpacked into the cache, without changes to the system and without root.

`apt-get` resolves and downloads the packages, `dpkg-deb` unpacks them. If the system has no package lists, as in a slim
image, they are fetched into the cache. `python -m lab.build.debian PACKAGE …` prints the folder.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.build.go_build import Progress, cache_directory, print_progress
from lab.net.private import is_private

PROGRAMS = ("apt-get", "dpkg-deb")
PROGRAM_FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin")
LIBRARY_FOLDERS = ("usr/lib", "lib")
# "Inst nftables (1.0.6-2 Debian:12.15/oldstable [amd64])", with "[the installed version]" before the new one.
PLANNED = re.compile(r"^Inst (?P<name>\S+) (?:\[\S+\] )?\((?P<version>\S+) ", re.MULTILINE)
# apt downloads as user `_apt`, which does not exist in a user namespace with a single user.
OPTIONS = ("-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=false", "-o", "Debug::NoLocking=true")


class PackageUnavailable(Exception):
    """Packages could not be fetched; the text is one line with their names and the reason."""


def unpack(packages: Sequence[str], progress: Progress) -> Path:
    """The folder with the files of ``packages`` and of their dependencies that are not installed, as below `/`.

    Maintainer scripts are not run. A second call finds the same folder; in private namespaces, which have no network,
    it does not check for newer versions. Raises PackageUnavailable.
    """
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise PackageUnavailable(f"`{program}` is missing, cannot fetch {' '.join(packages)}")
    cache = cache_directory() / "debian"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        # Concurrent runs download once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        earlier = sorted(cache.glob(f"{'+'.join(sorted(packages))}-*"), key=lambda folder: folder.stat().st_mtime)
        if earlier and is_private():
            return earlier[-1]
        own_lists = cache / "lists"
        own = (*OPTIONS, "-o", f"Dir::State::lists={own_lists}", "-o", f"Dir::Cache={own_lists}")
        problem = PackageUnavailable()
        # The system's lists may be missing, or name versions that the archive no longer has.
        for options, renewed in ((OPTIONS, False), (own, False), (own, True)):
            try:
                if renewed:
                    _fetch_lists(own_lists, options, progress)
                return _unpack(packages, options, cache, progress)
            except PackageUnavailable as error:
                problem = error
        raise problem


def program(root: Path, name: str) -> Path:
    """The path of a program below a folder from `unpack`. Raises LookupError."""
    for folder in PROGRAM_FOLDERS:
        if (root / folder / name).exists():
            return root / folder / name
    raise LookupError(f"no program {name} below {root}")


def command(name: str, package: str, progress: Progress = lambda text: None) -> list[str]:
    """The command for a program, installed or from a package. Raises PackageUnavailable, LookupError."""
    if shutil.which(name) is not None:
        return [name]
    root = unpack([package], progress)
    return ["env", f"LD_LIBRARY_PATH={environment(root)['LD_LIBRARY_PATH']}", str(program(root, name))]


def environment(root: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``base``, in which the programs and libraries below a folder from `unpack` come first."""
    programs = [str(root / folder) for folder in PROGRAM_FOLDERS if (root / folder).is_dir()]
    paths = [*programs, base.get("PATH", os.defpath)]
    libraries = [*map(str, _library_folders(root)), *filter(None, [base.get("LD_LIBRARY_PATH")])]
    return {**base, "PATH": os.pathsep.join(paths), "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def _library_folders(root: Path) -> Iterator[Path]:
    """The folders of the machine's architecture (`usr/lib/x86_64-linux-gnu`), and those above them."""
    for folder in LIBRARY_FOLDERS:
        yield from sorted((root / folder).glob("*-linux-gnu*"))
        if (root / folder).is_dir():
            yield root / folder


def _fetch_lists(lists: Path, options: Sequence[str], progress: Progress) -> None:
    progress("fetching package lists into the cache")
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    # Without this mode a list that cannot be fetched is only a warning.
    result = _run("apt-get", *options, "-o", "APT::Update::Error-Mode=any", "update")
    if result.returncode:
        raise PackageUnavailable(f"no Debian package lists: {_reason(result)}")


def _unpack(packages: Sequence[str], options: Sequence[str], cache: Path, progress: Progress) -> Path:
    # Include named packages that are installed: the caller expects all of them in one folder.
    result = _run("apt-get", *options, "--simulate", "--reinstall", "install", *packages)
    planned = sorted(f"{found['name']}={found['version']}" for found in PLANNED.finditer(result.stdout))
    if result.returncode or not planned:
        raise PackageUnavailable(f"Debian packages {' '.join(packages)}: {_reason(result)}")
    key = hashlib.sha256("\n".join(planned).encode()).hexdigest()[:12]
    target = cache / f"{'+'.join(sorted(packages))}-{key}"
    if not target.exists():
        progress(f"fetching Debian packages {' '.join(packages)}, {len(planned)} with dependencies")
        _fetch(planned, options, target)
    return target


def _fetch(planned: Sequence[str], options: Sequence[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        downloads, root = Path(folder) / "downloads", Path(folder) / "root"
        downloads.mkdir()
        root.mkdir()
        result = _run("apt-get", *options, "download", *planned, folder=downloads)
        if result.returncode:
            raise PackageUnavailable(f"Debian packages {' '.join(planned)}: {_reason(result)}")
        for archive in sorted(downloads.glob("*.deb")):
            unpacked = _run("dpkg-deb", "--extract", str(archive), str(root))
            if unpacked.returncode:
                raise PackageUnavailable(f"{archive.name}: {_reason(unpacked)}")
        root.rename(target)


def _run(*command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    words = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command, cwd=folder, env=words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    """The first error message, on one line."""
    lines = [*result.stderr.splitlines(), *result.stdout.splitlines()]
    errors = [line for line in lines if line.startswith(("E:", "Err", "dpkg-deb: error"))]
    return next(iter(errors or lines), f"exit code {result.returncode}")


def main(packages: Sequence[str]) -> int:
    try:
        print(unpack(packages, print_progress))
    except PackageUnavailable as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
