"""A node's machine: namespaces, directories and control groups of its own, which can lose power and boot again.

A disk is a folder that survives a power failure. `/run` does not, as on any machine.
"""

import os
import signal
from pathlib import Path
from typing import ClassVar

from lab.cluster.cgroups import Cgroups
from lab.net.vlan import Node
from lab.processes import child_pids, run

# Folders below /var that each node has for itself.
OWN_FOLDERS = ("lib/containerd", "lib/kubelet", "lib/overlay-net", "log")
# The kubelet writes these sysctls, which are not namespaced.
SHARED_SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
# A new sysfs shows the links of this network namespace; control groups, which it lacks, are mounted into it again.
# The packages are mounted over /usr/lib because runc re-executes itself with an empty environment.
MOUNTS = r"""
set -e
disk=$1 packages=$2
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/cgroup /run/disk "$disk/var" "$disk/work"
mount --bind "$disk" /run/disk
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount --lazy /run/cgroup
mount -t overlay -o "lowerdir=$packages/usr/lib:/usr/lib" overlay /usr/lib
mount -t overlay -o "lowerdir=/var,upperdir=/run/disk/var,workdir=/run/disk/work" overlay /var
for folder in FOLDERS; do
  mkdir -p "/run/disk/$folder" "/var/$folder"
  mount --bind "/run/disk/$folder" "/var/$folder"
done
for setting in SYSCTLS; do
  [ -e "/proc/sys/$setting" ] || continue
  mkdir -p "/run/sysctl/$(dirname "$setting")"
  cat "/proc/sys/$setting" > "/run/sysctl/$setting"
  mount --bind "/run/sysctl/$setting" "/proc/sys/$setting"
done
# Last: removing a shared mount would remove its other mounts too.
mount --make-rshared /
""".replace("FOLDERS", " ".join(OWN_FOLDERS)).replace("SYSCTLS", " ".join(SHARED_SYSCTLS))


class Machine(Node):
    """A node with its own PID namespace: all processes end with the first one."""

    KINDS: ClassVar[tuple[str, ...]] = (*Node.KINDS, "--ipc", "--pid")
    UNSHARE: ClassVar[tuple[str, ...]] = ("--fork", "--kill-child", "--mount-proc")
    # Not `exec`: the shell keeps running and reaps orphans of containers.
    PAUSE: ClassVar[str] = 'hostname "$1" && ip link set lo up && echo ready && cat'

    def __init__(self, name: str, port: str, *, disk: Path, packages: Path, cgroups: Cgroups) -> None:
        self._first_process = 0
        super().__init__(name, port)
        self._cgroups = cgroups
        try:
            self.cgroup = cgroups.make(name)
            disk.mkdir(parents=True, exist_ok=True)
            run([*self.enter, "sh", "-c", MOUNTS, "sh", str(disk), str(packages)])
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        if not self._first_process:
            self._first_process = child_pids(self._pause.pid)[0]
        return self._first_process

    def _kill(self) -> None:
        if self._pause.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """A power failure: all processes end at once, and only the disk remains."""
        super().close()
        self._cgroups.remove(self.name)
