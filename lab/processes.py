"""Programs that the lab runs: one command awaited, or a long-running one with a log file."""

import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self


class CommandFailed(Exception):
    """A command ended with an error; the text has the command and its stderr."""


class ConditionTimeout(Exception):
    """A condition did not become true in time, or the process that it depends on ended."""


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float = 120.0,
) -> str:
    """The stdout of a command; `env` is added to the environment of this process.

    Raises CommandFailed if it exits with an error (and `check`), or takes longer than `timeout` seconds.
    """
    text = " ".join(argv)
    try:
        done = subprocess.run(
            argv,
            input="" if stdin is None else stdin,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{text}: still running after {timeout:g} s") from None
    if check and done.returncode:
        raise CommandFailed(f"{text}: exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Process:
    """A long-running program: started at once, its output appended to a log file.

    ``enter`` is a prefix of the command, such as one that enters a namespace.
    The process has its own session: Ctrl-C ends the lab's main command, which then ends its processes in order.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        enter: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.env = dict(env or {})
        self.log = log
        self._enter = tuple(enter)
        self._popen = self._spawn()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        self._popen.send_signal(number)

    def pause(self) -> None:
        """Suspend it (SIGSTOP) and wait until all of its threads have stopped, unless it has ended.

        On a busy machine its threads go on for a while after the signal was sent (wait(2), WSTOPPED).
        """
        self.send(signal.SIGSTOP)
        if self.alive:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Continue a suspended process."""
        self.send(signal.SIGCONT)

    def kill9(self) -> None:
        """Kill it (SIGKILL); idempotent."""
        self.send(signal.SIGKILL)
        self._popen.wait()

    def terminate(self, timeout: float = 10.0) -> int:
        """Send SIGTERM and return the exit code; kill it and raise ConditionTimeout if it does not end."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float) -> int:
        """The exit code; kill it and raise ConditionTimeout if it has not ended within `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise ConditionTimeout(f"{self.name} did not end within {timeout:g} s\n{self.tail()}") from None

    def start(self) -> None:
        """Start it again if it has ended."""
        if not self.alive:
            self._popen = self._spawn()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill9()
        self.start()

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"last lines of {self.log}:\n" + "\n".join(text.splitlines()[-lines:])

    def wait_for(self, condition: Callable[[], bool], what: str, *, timeout: float = 30.0) -> None:
        """Wait for a condition that depends on this process; raise ConditionTimeout with the log if it ends before."""

        def holds() -> bool:
            if not self.alive:
                raise ConditionTimeout(f"{self.name} ended with {self.exit_code} before {what}\n{self.tail()}")
            return condition()

        try:
            wait_until(holds, what, timeout=timeout)
        except ConditionTimeout as error:
            raise ConditionTimeout(f"{error}\n{self.tail()}" if self.alive else str(error)) from None

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._enter, *self.argv],
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill9()


def serves(url: str) -> bool:
    """Whether the URL answers with success within 2 seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def child_pids(pid: int) -> list[int]:
    """Children of the process's first thread, such as the program that `unshare --fork` or `nsenter --pid` runs."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stop_requested() -> threading.Event:
    """An event that SIGINT and SIGTERM set; they have no other effect from now on."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def wait_until(condition: Callable[[], bool], what: str, *, timeout: float = 30.0, every: float = 0.05) -> None:
    """Check the condition every `every` seconds until it is true; raise ConditionTimeout after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ConditionTimeout(f"{what}: not within {timeout:g} s")
        time.sleep(every)
