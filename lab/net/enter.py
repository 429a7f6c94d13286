"""The script with which a person gets into a lab that stays up: into its namespaces, or onto one of its machines."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.net.namespaces import Namespace
from lab.net.private import OUTER_PID, ROOTLESS

ENTER = """#!/bin/sh
# Runs a command in the lab, or on one of its machines if the first word names one; a shell without a command.
outer={outer}
holder=$(cat /proc/$outer/task/$outer/children)
holder=$(cat /proc/${{holder% }}/task/${{holder% }}/children)
holder=${{holder% }}
pid=
case "$1" in
{cases}
esac
[ $# -gt 0 ] || set -- sh
export KUBECONFIG={kubeconfig} PATH="{programs}:$PATH"
if [ -n "$pid" ]; then
  exec {enter} nsenter --target=$pid --net --mount --uts --ipc --pid -- "$@"
fi
exec {enter} "$@"
"""


def write_script(
    target: Path,
    machines: Mapping[str, Namespace],
    kubeconfig: Path,
    programs: Path,
    commands: Mapping[str, Sequence[str]],
) -> None:
    """An executable script at ``target``; its first word may be a machine or one of ``commands``.

    ``kubeconfig`` and the folder ``programs`` are at hand in it.
    """
    user = "--user --preserve-credentials " if os.environ.get(ROOTLESS) else ""
    cases = [f"  {name}) pid={machine.pid}; shift ;;" for name, machine in machines.items()]
    cases += [f'  {name}) shift; set -- {shlex.join(words)} "$@" ;;' for name, words in commands.items()]
    text = ENTER.format(
        outer=os.environ[OUTER_PID],
        enter=f"nsenter {user}--target=$holder --net --mount --pid --",
        kubeconfig=kubeconfig,
        programs=programs,
        cases="\n".join(cases),
    )
    target.write_text(text)
    target.chmod(0o755)
