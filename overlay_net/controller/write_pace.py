"""When the next status writes are due: the time that writes take is at most a tenth of the time that passes.

The first change is written at once. Each further batch collects changes for a moment, and longer if the API server is
slow or has many statuses to store.
"""

import time
from collections.abc import Callable
from typing import Final

SHARE: Final = 0.1
"""The part of the time that writes may take."""

COLLECT: Final = 0.05
"""Minimum number of seconds between two batches."""

IDLE: Final = 10.0
"""Number of seconds without writes that count, so that the first batches after a quiet time need not wait."""


class WritePace:
    """``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ended = clock() - COLLECT
        self._paid = clock() - IDLE
        """From when on the writes so far take no more than their share."""

    def record(self, seconds: float) -> None:
        """Record that writes have just ended, which took ``seconds``."""
        self._ended = self._clock()
        self._paid = max(self._paid, self._ended - IDLE) + seconds / SHARE

    def delay(self) -> float:
        """Return the number of seconds until the next batch is due."""
        return max(0.0, max(self._paid, self._ended + COLLECT) - self._clock())
