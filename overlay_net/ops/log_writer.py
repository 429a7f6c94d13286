"""A log handler that writes in a thread, so that a reader of the log that has stopped does not stop the process.

The container runtime reads standard error from a pipe and writes it to a disk. If that disk stalls, the pipe is full
after 64 KiB, and the next write would block the event loop.
"""

import contextlib
import logging
import os
import queue
import threading
from typing import Final

MAX_LINES: Final = 10_000
"""Maximum number of lines that wait to be written; further ones are dropped and counted."""

FLUSH_TIMEOUT: Final = 1.0
"""Seconds for which the exit of the process waits for the lines that are left."""


class BackgroundHandler(logging.Handler):
    """Writes to ``descriptor``, without the buffer of a stream, which a hanging write would lock at exit."""

    def __init__(self, descriptor: int, max_lines: int = MAX_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(max_lines)
        self._dropped = 0
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Formatted here, because the values of a record may change.
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all lines are written, at most FLUSH_TIMEOUT seconds."""
        done = self._lines.all_tasks_done
        with done:
            done.wait_for(lambda: not self._lines.unfinished_tasks, FLUSH_TIMEOUT)

    def close(self) -> None:
        self.flush()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        super().close()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            if self._dropped and self._lines.empty():
                dropped, self._dropped = self._dropped, 0
                self._write(self.format(_dropped_record(dropped)) + "\n")
            self._lines.task_done()

    def _write(self, line: str) -> None:
        left = memoryview(line.encode(errors="backslashreplace"))
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self._descriptor, left) :]


def _dropped_record(count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log lines were dropped; their reader did not keep up",
            "lines": count,
        }
    )
