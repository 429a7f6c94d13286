"""A node as a machine: its namespaces, its own directories and control groups; it loses power, and boots again.

A disk is a folder that outlives a power failure. `/run` does not, as on any machine.
"""

import os
import signal
from pathlib import Path
from typing import ClassVar

from lab.cluster.cgroups import Cgroups
from lab.net.vlan import Node
from lab.processes import child_pids, run

# What belongs to one node and would else be shared with the machine below.
OWN_FOLDERS = ("lib/containerd", "lib/kubelet", "lib/overlay-net", "log")
# The kubelet writes these, and they are not namespaced.
SHARED_SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
# A new sysfs shows the links of this network namespace; it comes without the control groups, which are bound back.
# The folder of packages lies over /usr/lib, as runc starts itself again without any environment.
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
# Not before: the removal of a shared mount reaches its other places.
mount --make-rshared /
""".replace("FOLDERS", " ".join(OWN_FOLDERS)).replace("SYSCTLS", " ".join(SHARED_SYSCTLS))


class Machine(Node):
    """A node with processes of its own: all of them end with the first one."""

    KINDS: ClassVar[tuple[str, ...]] = (*Node.KINDS, "--ipc", "--pid")
    UNSHARE: ClassVar[tuple[str, ...]] = ("--fork", "--kill-child", "--mount-proc")
    # Not `exec`: the shell stays and reaps what containers leave behind.
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
        """A power failure: every process ends at once, and only the disk stays."""
        super().close()
        self._cgroups.remove(self.name)
