"""A function that runs in a child process, so that what it imports does not stay in the memory of this one."""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Generic, TypeVar

from overlay_net.model.errors import OverlayNetError

T = TypeVar("T")


class ChildFailed(Exception):
    """The child process ended without a result; unless it was killed, it has written why to standard error."""


class ChildProcess(Generic[T]):
    """A fork of this process that runs ``function``; both may import modules at the same time.

    Start it before any thread: a lock that another thread holds stays locked in a fork.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(writer)
        else:
            os.close(self._reader)
            _run(function, writer)

    def result(self) -> T:
        """Wait for the child process, once. Raises the OverlayNetError that the function raised, or ChildFailed."""
        with os.fdopen(self._reader, "rb") as pipe:
            content = pipe.read()
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code:
            raise ChildFailed(f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}")
        outcome: T | OverlayNetError = pickle.loads(content)
        if isinstance(outcome, OverlayNetError):
            raise outcome
        return outcome


def _run(function: Callable[[], T], writer: int) -> None:
    """Write what the function returns or raises, and exit."""
    # If the parent process has ended, or ends by Ctrl-C as well, there is nothing to report.
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    code = 1
    try:
        outcome: T | OverlayNetError
        try:
            outcome = function()
        except OverlayNetError as error:
            outcome = error
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(outcome, pipe)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)
