"""Counts the steps of a computation between two turns of the event loop, so that a test needs no clock."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """``longest`` is the largest number of steps for which everything else on the event loop had to wait."""

    def __init__(self) -> None:
        self.longest = 0
        self.total = 0
        self._steps = 0
        self._loop_thread = threading.get_ident()

    def step(self) -> None:
        """One step is done; those in other threads do not block the event loop."""
        self.total += 1
        if threading.get_ident() == self._loop_thread:
            self._steps += 1
            self.longest = max(self.longest, self._steps)

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._restart_each_turn())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _restart_each_turn(self) -> None:
        while True:
            self._steps = 0
            await asyncio.sleep(0)
