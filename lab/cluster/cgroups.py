"""The control groups of the nodes: made below one folder of the lab's own in every hierarchy, removed bottom-up."""

import contextlib
import os
import re
from pathlib import Path

from lab.processes import wait_until

# "31 23 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"; optional fields may stand before the dash.
MOUNT = re.compile(r"^\S+ \S+ \S+ \S+ (?P<folder>\S+) .*? - (?P<kind>cgroup2?) \S+ (?P<options>\S+)$", re.MULTILINE)
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
"""What a kubelet asks for; of version 1 it asks for `devices` too."""


class CgroupsUnavailable(Exception):
    """Control groups cannot be made here; the text is one line that says what is missing."""


def hierarchies() -> dict[Path, set[str]]:
    """Where each hierarchy is mounted, and its controllers; those of a version 2 hierarchy are its children's."""
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
    """The folder ``name`` in every hierarchy, with one below it for each node."""

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self, node: str) -> str:
        """The `cgroupRoot` for a kubelet. Raises CgroupsUnavailable."""
        desired = {*CONTROLLERS, *(() if is_version_2() else ("devices",))}
        available = hierarchies()
        lacking = sorted(desired - set().union(*available.values()))
        if lacking:
            raise CgroupsUnavailable(f"no control group of the kind {', '.join(lacking)}")
        for hierarchy, controllers in available.items():
            folder = hierarchy
            for part in (self.name, node):
                try:
                    _enable(folder, controllers & desired)
                    folder = folder / part
                    folder.mkdir(exist_ok=True)
                    _inherit_cpuset(folder)
                except OSError as error:
                    raise CgroupsUnavailable(f"no control group can be made at {folder}: {error.strerror}") from None
        return f"/{self.name}/{node}"

    def remove(self, node: str = "") -> None:
        """Removes the groups of a node, or all of them; their processes have ended."""
        for hierarchy in hierarchies():
            folder = hierarchy / self.name / node
            wait_until(lambda folder=folder: _is_removed(folder), f"{folder} is empty")  # type: ignore[misc]


def _enable(folder: Path, controllers: set[str]) -> None:
    """Version 2: a group's children have the controllers that it hands down."""
    file = folder / "cgroup.subtree_control"
    if file.exists() and (more := controllers - set(file.read_text().split())):
        file.write_text(" ".join(f"+{each}" for each in sorted(more)))


def _inherit_cpuset(folder: Path) -> None:
    """Version 1: a new group of this hierarchy takes no process before it has processors and memory."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = folder / name
        if not is_version_2() and file.exists() and not file.read_text().strip():
            file.write_text((folder.parent / name).read_text())


def _is_removed(folder: Path) -> bool:
    """Whether nothing is left after an attempt: a group whose last process is just ending is busy."""
    for each, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(each).rmdir()
    return not folder.exists()
