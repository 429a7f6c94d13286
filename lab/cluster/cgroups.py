"""The control groups of the nodes, below one folder of the lab in every hierarchy."""

import contextlib
import os
import re
from pathlib import Path

from lab.processes import wait_until

# "31 23 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"; optional fields may stand before the dash.
MOUNT = re.compile(r"^\S+ \S+ \S+ \S+ (?P<folder>\S+) .*? - (?P<kind>cgroup2?) \S+ (?P<options>\S+)$", re.MULTILINE)
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
"""Controllers that a kubelet requires; with version 1 also `devices`."""


class CgroupsUnavailable(Exception):
    """Control groups cannot be created; the text is one line that names what is missing."""


def hierarchies() -> dict[Path, set[str]]:
    """Mount point of each hierarchy -> its controllers; of a version 2 hierarchy those available to children."""
    found = {}
    for mount in MOUNT.finditer(Path("/proc/self/mountinfo").read_text()):
        folder = Path(mount["folder"])
        if mount["kind"] == "cgroup2":
            found[folder] = set((folder / "cgroup.controllers").read_text().split())
        else:
            found[folder] = set(mount["options"].split(","))
    return found


def is_version_2() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


class Cgroups:
    """The folder ``name`` in every hierarchy, with a group for each node in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self, node: str) -> str:
        """Create the groups of a node; returns the `cgroupRoot` for its kubelet. Raises CgroupsUnavailable."""
        required = {*CONTROLLERS, *(() if is_version_2() else ("devices",))}
        available = hierarchies()
        missing = sorted(required - set().union(*available.values()))
        if missing:
            raise CgroupsUnavailable(f"missing controllers: {', '.join(missing)}")
        for hierarchy, controllers in available.items():
            folder = hierarchy
            for part in (self.name, node):
                try:
                    _enable(folder, controllers & required)
                    folder = folder / part
                    folder.mkdir(exist_ok=True)
                    _inherit_cpuset(folder)
                except OSError as error:
                    raise CgroupsUnavailable(f"cannot create {folder}: {error.strerror}") from None
        return f"/{self.name}/{node}"

    def remove(self, node: str = "") -> None:
        """Remove the groups of a node, or all of them, whose processes have ended."""
        for hierarchy in hierarchies():
            folder = hierarchy / self.name / node
            wait_until(lambda folder=folder: _is_removed(folder), f"{folder} is empty")  # type: ignore[misc]


def _enable(folder: Path, controllers: set[str]) -> None:
    """Version 2: a group enables controllers for its children."""
    file = folder / "cgroup.subtree_control"
    if file.exists() and (more := controllers - set(file.read_text().split())):
        file.write_text(" ".join(f"+{each}" for each in sorted(more)))


def _inherit_cpuset(folder: Path) -> None:
    """Version 1: a new group accepts processes only after its CPUs and memory nodes are set."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = folder / name
        if not is_version_2() and file.exists() and not file.read_text().strip():
            file.write_text((folder.parent / name).read_text())


def _is_removed(folder: Path) -> bool:
    """Try to remove all groups; false while one is busy, as its last process is still ending."""
    for each, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(each).rmdir()
    return not folder.exists()
