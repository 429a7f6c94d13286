"""Measures for how long the event loop runs one thing and nothing else."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

INTERVAL: Final = 0.005
"""Seconds between two ticks while the loop is busy. A block counts from the first tick that it delays."""

BUSY: Final = 0.5
"""Share of the time that the thread of a busy loop uses."""


class LoopBlocks:
    """The longest block since the start, in seconds: by the clock, and how much of it its thread was running.

    An idle loop is not woken: ticks follow a call of ``active``, and continue while the loop is busy.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cpu_clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._began = self._used = 0.0
        self._is_ticking = False
        self.longest = 0.0
        self.longest_cpu = 0.0

    def active(self) -> None:
        """Measure the work that follows. Needs a running event loop."""
        if not self._is_ticking:
            self._is_ticking = True
            self._schedule()

    def _schedule(self) -> None:
        self._began, self._used = self._clock(), self._cpu_clock()
        asyncio.get_running_loop().call_later(INTERVAL, self._tick)

    def _tick(self) -> None:
        elapsed, used = self._clock() - self._began, self._cpu_clock() - self._used
        late = elapsed - INTERVAL
        self.longest = max(self.longest, late)
        self.longest_cpu = max(self.longest_cpu, min(late, used))
        if used > BUSY * elapsed:
            self._schedule()
        else:
            self._is_ticking = False
