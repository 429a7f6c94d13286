"""Run a command in private namespaces: `python -m lab.net.private COMMAND …`.

Links, namespaces and processes that the command creates are removed when it ends for any reason, and the network of the
machine is not changed. An ordinary user becomes root of a new user namespace, if the kernel allows it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.processes import child_pids

INSIDE = "LAB_PRIVATE"
OUTER_PID = "LAB_OUTER_PID"
"""Variable with the process that started `unshare`: its grandchild holds the namespaces."""
ROOTLESS = "LAB_ROOTLESS"
EXIT_USAGE = 2
LINK_TYPES = ("veth", "bridge", "macvlan")


class MissingRequirement(Exception):
    """This machine cannot run the lab; the text is one line with the fix."""


def is_private() -> bool:
    return os.environ.get(INSIDE) == "1"


def command_line(argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` as the first process of new namespaces."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *user, *namespaces, "--", sys.executable, "-m", "lab.net.private", "--inside", "--", *argv]


def check() -> None:
    """Raise MissingRequirement with the first reason why this machine cannot run the lab."""
    if sys.platform != "linux":
        raise MissingRequirement("the lab needs Linux: it uses network namespaces")
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            raise MissingRequirement(f"`{program}` is missing: install package {package}")
    probe = " && ".join(
        [
            "ip link set lo up",
            "ip link add v0 type veth peer name v1",
            "ip link add b0 type bridge",
            "ip link add m0 link v0 type macvlan mode bridge",
        ]
    )
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    tried = subprocess.run(
        ["unshare", *user, "--net", "--mount", "sh", "-c", probe], capture_output=True, text=True, check=False
    )
    if tried.returncode == 0:
        return
    reason = " ".join(tried.stderr.split())
    for kind in LINK_TYPES:
        if "Unknown device type" in reason and not _has_link_type(kind, user):
            raise MissingRequirement(
                f"the kernel does not support {kind} links: load the module (`modprobe {kind}`) or use another kernel"
            )
    if os.geteuid() != 0:
        raise MissingRequirement(
            f"user namespaces are not permitted ({reason}): run as root, or permit them ({_user_fix()})"
        )
    raise MissingRequirement(
        f"network namespaces are not permitted ({reason}): run with CAP_SYS_ADMIN and CAP_NET_ADMIN"
    )


def _has_link_type(kind: str, user: list[str]) -> bool:
    parent = "link v0 " if kind == "macvlan" else ""
    probe = f"ip link add v0 type veth peer name v1; ip link add t0 {parent}type {kind}"
    tried = ["unshare", *user, "--net", "sh", "-c", probe]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def _user_fix() -> str:
    for knob, value in (
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ("kernel.unprivileged_userns_clone", "1"),
    ):
        path = Path("/proc/sys") / knob.replace(".", "/")
        if path.exists() and path.read_text().strip() != value:
            return f"sysctl {knob}={value}"
    return "sysctl user.max_user_namespaces=15000"


def enter(argv: Sequence[str]) -> int:
    """Run ``argv`` in private namespaces and return its exit code. Raises MissingRequirement.

    `unshare` blocks SIGTERM while it waits for its child, so this process keeps running and forwards the signal.
    """
    check()
    outer = {OUTER_PID: str(os.getpid()), ROOTLESS: "1" if os.geteuid() else ""}
    child = subprocess.Popen(command_line(argv), env={**os.environ, **outer})

    def forward(number: int, _: object) -> None:
        for pid in child_pids(child.pid):
            os.kill(pid, number)

    # The terminal sends Ctrl-C to the command itself: only wait for its end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, forward)
    return child.wait()


def _first_process(argv: Sequence[str]) -> int:
    """Run as process 1 of the namespaces: forward signals, reap orphans, and return the command's exit code."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # A child inherits ignored signals: the command must receive Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(argv, env={**os.environ, INSIDE: "1"})

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    # The terminal sends Ctrl-C to the child as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGHUP, forward)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(argv: Sequence[str]) -> int:
    inside = list(argv[:1]) == ["--inside"]
    command = [word for index, word in enumerate(argv) if not (word == "--" and index <= int(inside))][int(inside) :]
    if not command:
        print("usage: python -m lab.net.private COMMAND [ARGUMENT …]", file=sys.stderr)
        return EXIT_USAGE
    if inside:
        return _first_process(command)
    try:
        return enter(command)
    except MissingRequirement as error:
        print(f"lab: {error}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
