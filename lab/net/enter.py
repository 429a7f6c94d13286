"""The script that enters the namespaces of a running lab, or one of its machines."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.net.namespaces import Namespace
from lab.net.private import OUTER_PID, ROOTLESS

ENTER = """#!/bin/sh
# Runs a command (default: a shell) in the lab, or on a machine if the first argument names one.
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
    """Write an executable script to ``target``, whose first argument may name a machine or one of ``commands``.

    It sets KUBECONFIG and adds the folder ``programs`` to PATH.
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
