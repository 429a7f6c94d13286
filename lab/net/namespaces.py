"""Named network, mount and UTS namespaces, and the veth links that join them.

A process holds each namespace instead of a file in /run/netns, so that it needs no privileges outside a user namespace
and is removed with the lab. It is entered with nsenter: `ip netns exec` would remount /sys.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from lab.processes import CommandFailed, run, wait_until

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
"""`linux/sched.h`"""
# `cat` ends when the lab's end of its stdin closes: a namespace does not outlive a killed lab.
PAUSE = 'hostname "$1" && ip link set lo up && echo ready && exec cat'


class Namespace:
    """A host with its own links, routes, /proc/sys/net, mounts and host name."""

    KINDS: ClassVar[tuple[str, ...]] = ("--net", "--mount", "--uts")
    UNSHARE: ClassVar[tuple[str, ...]] = ()
    """Options of `unshare`, in addition to the kinds of namespaces."""
    PAUSE: ClassVar[str] = PAUSE

    def __init__(self, name: str) -> None:
        self.name = name
        self._pause = subprocess.Popen(
            ["unshare", *self.KINDS, *self.UNSHARE, "sh", "-c", self.PAUSE, "pause", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._pause.stdout and self._pause.stderr
        if self._pause.stdout.readline() != "ready\n":
            reason = self._pause.stderr.read().strip()
            self.close()
            raise CommandFailed(f"namespace {name}: {reason}")

    @property
    def pid(self) -> int:
        """The process that holds the namespace, for `ip link … netns PID`."""
        return self._pause.pid

    @property
    def enter(self) -> list[str]:
        """The prefix that runs a command in this namespace."""
        # Entering a mount namespace changes to its root directory: return to the caller's.
        return ["nsenter", f"--target={self.pid}", *self.KINDS, "--", "env", f"--chdir={Path.cwd()}"]

    def run(
        self,
        *command: str,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120.0,
    ) -> str:
        """The stdout of a command in this namespace; raises CommandFailed."""
        return run([*self.enter, *command], stdin=stdin, env=env, check=check, timeout=timeout)

    def popen(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command in this namespace, with pipes; lab.processes.Process has a log file instead."""
        return subprocess.Popen(
            [*self.enter, *command],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread of this process that is in this network namespace, as are the sockets it opens.

        It takes milliseconds, where an interpreter in the namespace would take a tenth of a second to start.
        Raises OSError if the namespace is gone, and what the function raises.
        """

        def run() -> T:
            _enter_network(self.pid)
            return function()

        # The thread ends here: a thread that has entered a namespace must not be used for anything else.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(run).result()

    def ip(self, *words: str, check: bool = True) -> str:
        """The output of `ip …` in this namespace."""
        return self.run("ip", *words, check=check)

    def sysctl(self, key: str, value: str | int) -> None:
        """Set a sysctl, for instance `net.ipv4.ip_forward`."""
        self.run("tee", f"/proc/sys/{key.replace('.', '/')}", stdin=str(value))

    def pids(self) -> list[int]:
        """Every process whose network namespace is this one."""
        with contextlib.suppress(OSError):
            mine = Path(f"/proc/{self.pid}/ns/net").stat()
            return [pid for pid in _all_pids() if _is_in(pid, mine)]
        return []

    def close(self) -> None:
        """Kill all processes in this namespace and remove it; idempotent."""
        self._kill()
        self._pause.wait()
        for pipe in (self._pause.stdin, self._pause.stdout, self._pause.stderr):
            if pipe:
                pipe.close()

    def _kill(self) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._pause.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _enter_network(pid: int) -> None:
    """Move this thread into the network namespace of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _is_in(pid: int, namespace: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(f"/proc/{pid}/ns/net").stat(), namespace)
    except OSError:
        return False


def make_bridge(name: str, address: str, mac: str) -> None:
    """A bridge in the caller's namespace, up, with an address such as 10.176.162.130/26."""
    # A bridge without a MAC address of its own takes the lowest one of its ports: ARP caches would become stale.
    run(["ip", "link", "add", name, "address", mac, "type", "bridge"])
    run(["ip", "address", "add", address, "dev", name])
    run(["ip", "link", "set", name, "up"])


def join_bridge(namespace: Namespace, bridge: str, *, port: str, link: str = "eth0", mac: str | None = None) -> None:
    """A veth pair: `link` in the namespace, `port` on the bridge in the caller's namespace."""
    own = ["address", mac] if mac else []
    peer = ["peer", "name", link, "netns", str(namespace.pid), *own]
    run(["ip", "link", "add", port, "type", "veth", *peer])
    run(["ip", "link", "set", port, "master", bridge, "up"])
    namespace.ip("link", "set", link, "up")


def leave_bridge(port: str) -> None:
    """Remove a port and with it the other end; no error if it is already gone."""
    run(["ip", "link", "delete", port], check=False)
    wait_until(lambda: not Path(f"/proc/sys/net/ipv4/conf/{port}").exists(), f"{port} is gone")


def remove_bridge(name: str) -> None:
    """Remove a bridge with all its ports; no error if it is already gone."""
    # The kernel removes the ports of a closed namespace later, in its own time: the next bridge may need their names.
    for port in json.loads(run(["ip", "-json", "link", "show", "master", name], check=False) or "[]"):
        leave_bridge(port["ifname"])
    leave_bridge(name)


def connect(left: Namespace, left_link: str, right: Namespace, right_link: str) -> None:
    """A veth pair between two namespaces, both ends up."""
    peer = ["peer", "name", right_link, "netns", str(right.pid)]
    left.ip("link", "add", left_link, "type", "veth", *peer)
    left.ip("link", "set", left_link, "up")
    right.ip("link", "set", right_link, "up")
