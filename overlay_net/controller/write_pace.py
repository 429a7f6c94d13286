"""When the next status writes are due: the time that writes take is at most a tenth of the time that passes.

Each batch collects changes for a moment, and longer if the API server is slow or has many statuses to store. A new
StaticRoute is thus on its way to the nodes before its status is written, and the first reports are in it.
"""

import time
from collections.abc import Callable
from typing import Final

SHARE: Final = 0.1
"""The part of the time that writes may take."""

COLLECT: Final = 0.05
"""Minimum number of seconds from the first change, or from the batch before, until a batch is written."""

IDLE: Final = 10.0
"""Number of seconds without writes that count, so that the first batches after a quiet time need not wait."""


class WritePace:
    """``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_collecting = False
        self._collecting_since = clock() - COLLECT
        """When the first change since the last batch was made; without one, when that batch ended."""
        self._paid = clock() - IDLE
        """From when on the writes so far take no more than their share."""

    def collect(self) -> None:
        """Record that something has changed."""
        if not self._is_collecting:
            self._is_collecting, self._collecting_since = True, self._clock()

    def record(self, seconds: float) -> None:
        """Record that writes have just ended, which took ``seconds``."""
        now = self._clock()
        self._is_collecting, self._collecting_since = False, now
        self._paid = max(self._paid, now - IDLE) + seconds / SHARE

    def delay(self) -> float:
        """Return the number of seconds until the next batch is due."""
        return max(0.0, max(self._paid, self._collecting_since + COLLECT) - self._clock())


class Settling:
    """When a series of changes is over: ``quiet`` seconds after the last one, or ``limit`` after the first."""

    def __init__(self, quiet: float, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._limit = limit
        self._clock = clock
        self._first: float | None = None
        self._last = 0.0

    def record(self) -> None:
        """Record that there has just been a change."""
        self._last = self._clock()
        if self._first is None:
            self._first = self._last

    def delay(self) -> float:
        """Return the number of seconds until they count as over."""
        if self._first is None:
            return 0.0
        return max(0.0, min(self._last + self._quiet, self._first + self._limit) - self._clock())

    def end(self) -> None:
        """The next change is a first one."""
        self._first = None
