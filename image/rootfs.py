"""Collects the file system of the image while it is built: `python3 rootfs.py ENVIRONMENT TARGET`.

What goes in: the interpreter that runs this, its standard library without what a service never uses, the virtual
environment ENVIRONMENT, the shared libraries that those need, and the certificates that the base trusts. Everything
keeps its place, so that any base of a Debian kind will do.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Tools for people and for building, and what else needs libraries that nothing here uses.
UNUSED = (
    "EXTERNALLY-MANAGED", "__pycache__", "config-*", "curses", "dbm", "dist-packages", "distutils", "ensurepip",
    "idlelib", "lib2to3", "pydoc_data", "site-packages", "sitecustomize.py", "sqlite3", "test", "tkinter", "turtle.py",
    "turtledemo", "venv",
    "_ctypes_test.*", "_curses*.so", "_dbm.*", "_gdbm.*", "_sqlite3.*", "_test*.so", "_tkinter.*", "nis.*",
    "readline.*", "xxlimited*",
)  # fmt: skip
# Of the environment: scripts for a shell, and what is read when something is compiled or tested.
SOURCES = ("__pycache__", "[Aa]ctivate*", "tests", "*.c", "*.h", "*.pxd", "*.pyi", "*.pyx")
FILES = {
    "etc/passwd": "root:x:0:0:root:/:/sbin/nologin\noverlay-net:x:65532:65532:overlay-net:/:/sbin/nologin\n",
    "etc/group": "root:x:0:\noverlay-net:x:65532:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f...)", and the loader without an arrow.
LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)


def main(environment: Path, target: Path) -> None:
    interpreter = Path(sys.executable).resolve()
    standard_library = Path(sysconfig.get_path("stdlib"))
    for folder, ignored in ((standard_library, UNUSED), (environment, SOURCES)):
        shutil.copytree(
            folder, target / folder.relative_to("/"), symlinks=True, ignore=shutil.ignore_patterns(*ignored)
        )
    copy(interpreter, target)
    for name in ("python3", "python"):
        # The environment's own interpreter is a link to one of these.
        link = target / interpreter.relative_to("/").with_name(name)
        link.symlink_to(interpreter.name)
    for library in sorted(libraries([interpreter, *target.rglob("*.so")], target)):
        copy(library, target)
    for link in Path("/").glob("lib*"):
        if link.is_symlink():
            (target / link.name).symlink_to(link.readlink())
    copy(CERTIFICATES, target)
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
    """What the loader would load for ``programs``, as far as it does not lie in their own folders."""
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        if "not found" in listed:
            sys.exit(f"{program}: {listed}")
        yield from (path for path in map(Path, LIBRARY.findall(listed)) if not path.is_relative_to(target))
    # glibc loads it by itself when a thread ends early.
    yield from Path("/usr/lib").glob(f"{sysconfig.get_config_var('MULTIARCH')}/libgcc_s.so.1")


def copy(file: Path, target: Path) -> None:
    """The file behind a path, at that path; a link in the folder part is followed."""
    place = target / os.path.relpath(file.parent.resolve() / file.name, "/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, place)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
