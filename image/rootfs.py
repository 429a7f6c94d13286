"""Assembles the root file system of the image during its build: `python3 rootfs.py ENVIRONMENT TARGET`.

It copies the running interpreter, its standard library without the modules that a service never uses, the virtual
environment ENVIRONMENT, the shared libraries that these need, the CA certificates of the base image, and, for scanners,
the records of the Debian packages that all this is from. All paths stay the same, so any Debian-based image can be the
base.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Interactive and build tools, and modules that need shared libraries that nothing else needs.
UNUSED = (
    "EXTERNALLY-MANAGED", "__pycache__", "config-*", "curses", "dbm", "dist-packages", "distutils", "ensurepip",
    "idlelib", "lib2to3", "pydoc_data", "site-packages", "sitecustomize.py", "sqlite3", "test", "tkinter", "turtle.py",
    "turtledemo", "venv",
    "_ctypes_test.*", "_curses*.so", "_dbm.*", "_gdbm.*", "_sqlite3.*", "_test*.so", "_tkinter.*", "nis.*",
    "readline.*", "xxlimited*",
)  # fmt: skip
# Files of the environment that are not needed at run time: shell scripts, sources and tests.
BUILD_ONLY = ("__pycache__", "[Aa]ctivate*", "tests", "*.c", "*.h", "*.pxd", "*.pyi", "*.pyx")
FILES = {
    "etc/passwd": "root:x:0:0:root:/:/sbin/nologin\noverlay-net:x:65532:65532:overlay-net:/:/sbin/nologin\n",
    "etc/group": "root:x:0:\noverlay-net:x:65532:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Output of ldd: "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f...)"; the line of the loader has no arrow.
LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)


def main(environment: Path, target: Path) -> None:
    interpreter = Path(sys.executable).resolve()
    standard_library = Path(sysconfig.get_path("stdlib"))
    for folder, ignored in ((standard_library, UNUSED), (environment, BUILD_ONLY)):
        shutil.copytree(
            folder, target / folder.relative_to("/"), symlinks=True, ignore=shutil.ignore_patterns(*ignored)
        )
    copy(interpreter, target)
    for name in ("python3", "python"):
        # The interpreter of the virtual environment is a symbolic link to one of these.
        link = target / interpreter.relative_to("/").with_name(name)
        link.symlink_to(interpreter.name)
    needed = sorted({*libraries([interpreter, *target.rglob("*.so")], target)})
    for library in needed:
        copy(library, target)
    for link in Path("/").glob("lib*"):
        if link.is_symlink():
            (target / link.name).symlink_to(link.readlink())
    copy(CERTIFICATES, target)
    standard = [standard_library / name for name in ("os.py", "asyncio/__init__.py")]
    record_packages({"ca-certificates", *packages([interpreter, *standard, *needed])}, target)
    for name, text in FILES.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)
    for folder in ("dev", "proc", "run", "sys", "tmp"):
        (target / folder).mkdir()
    (target / "tmp").chmod(0o1777)
    shutil.copy("/etc/ld.so.conf", target / "etc")
    shutil.copytree("/etc/ld.so.conf.d", target / "etc/ld.so.conf.d")
    subprocess.run(["ldconfig", "-r", target], check=True)


def libraries(programs: list[Path], target: Path) -> Iterator[Path]:
    """Shared libraries that the dynamic loader loads for ``programs``, except those inside ``target``."""
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        if "not found" in listed:
            sys.exit(f"{program}: {listed}")
        yield from (path for path in map(Path, LIBRARY.findall(listed)) if not path.is_relative_to(target))
    # Not listed by ldd: glibc loads libgcc_s with dlopen when a thread exits early or is cancelled.
    yield from Path("/usr/lib").glob(f"{sysconfig.get_config_var('MULTIARCH')}/libgcc_s.so.1")


def packages(files: list[Path]) -> set[str]:
    """The Debian packages that ``files`` are from; none of a file that is from no package, as an interpreter may be."""
    paths = {str(path) for file in files for path in (file, file.resolve())}
    # Packages have files in /lib, which is a link to /usr/lib.
    paths |= {path.removeprefix("/usr") for path in paths}
    search = ["dpkg-query", "--search", *sorted(paths)]
    found = subprocess.run(search, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    lines = [line for line in found.splitlines() if not line.startswith("diversion ")]
    return {name for line in lines for name in line.partition(": ")[0].split(", ")}


def record_packages(names: set[str], target: Path) -> None:
    """Write the records of packages where scanners of images without a package manager find them."""
    folder = target / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True)
    for name in sorted(names):
        status = subprocess.run(["dpkg-query", "--status", name], stdout=subprocess.PIPE, text=True, check=True).stdout
        (folder / name.partition(":")[0]).write_text(status)
    shutil.copy("/etc/os-release", target / "etc")


def copy(file: Path, target: Path) -> None:
    """Copies ``file`` to the same path below ``target``; symbolic links in its directory are resolved."""
    place = target / os.path.relpath(file.parent.resolve() / file.name, "/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, place)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
