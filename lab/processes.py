"""Programs that the lab runs: one command awaited, or a long-running one with a log file."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self


class CommandFailed(Exception):
    """A command ended with an error; the text says which command, and what it wrote to stderr."""


class ConditionTimeout(Exception):
    """What was waited for did not come about, or the program that should bring it about died."""


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float = 120.0,
) -> str:
    """The stdout of a command; `env` comes on top of this process's environment.

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
        raise CommandFailed(f"{text}: no end after {timeout:g} s") from None
    if check and done.returncode:
        raise CommandFailed(f"{text}: exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Process:
    """A long-running program: started at once, its output appended to a log file.

    ``enter`` are words put before the command, such as those that enter a namespace.
    It has a session of its own: a Ctrl-C ends the lab's own command, which ends its processes in order.
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
        """Sends a signal; a process that has ended gets none."""
        self._popen.send_signal(number)

    def kill9(self) -> None:
        """Ends it without a chance to clean up; idempotent."""
        self.send(signal.SIGKILL)
        self._popen.wait()

    def terminate(self, timeout: float = 10.0) -> int:
        """Ends it in order (SIGTERM) and returns the exit code; kills it and raises ConditionTimeout if it stays."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float) -> int:
        """The exit code; kills it and raises ConditionTimeout if it has not ended within `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise ConditionTimeout(f"{self.name} did not end within {timeout:g} s\n{self.tail()}") from None

    def start(self) -> None:
        """Starts it again if it has ended."""
        if not self.alive:
            self._popen = self._spawn()

    def restart(self) -> None:
        """Kills it and starts it again."""
        self.kill9()
        self.start()

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"last lines of {self.log}:\n" + "\n".join(text.splitlines()[-lines:])

    def wait_for(self, condition: Callable[[], bool], what: str, *, timeout: float = 30.0) -> None:
        """Waits for a condition that this process brings about; if it dies or takes too long, says so with its log."""

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


def child_pids(pid: int) -> list[int]:
    """Of the process's first thread. `unshare --fork` and `nsenter --pid` have the program itself for a child."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stop_requested() -> threading.Event:
    """Set by SIGINT or SIGTERM, which do nothing else from now on."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    return asked


def wait_until(condition: Callable[[], bool], what: str, *, timeout: float = 30.0, every: float = 0.05) -> None:
    """Looks every `every` seconds whether the condition holds; raises ConditionTimeout after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ConditionTimeout(f"{what}: not within {timeout:g} s")
        time.sleep(every)
