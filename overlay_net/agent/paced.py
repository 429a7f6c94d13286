"""Limits how often the agent acts on events of other hosts, and how much of the time its checks of the kernel take."""

import asyncio
from collections.abc import Callable
from typing import Final

CHECK_INTERVAL: Final = 1.0
"""Minimum number of seconds between two checks of the same kind."""

REST: Final = 20.0
"""How many times as long as a check took to wait before the next one: other processes may change routes all the time,
and a node may have hundreds of thousands of routes and flows."""


def rest_after(took: float) -> float:
    """Return the seconds to wait after a check that took ``took`` seconds."""
    return max(CHECK_INTERVAL, REST * took)


class Paced:
    """Calls ``act`` at once, and then at most once per ``interval`` seconds while ``request`` is called meanwhile."""

    def __init__(self, act: Callable[[], None], interval: float) -> None:
        self._act = act
        self._interval = interval
        self._pause: asyncio.TimerHandle | None = None
        self._is_requested = False

    def request(self) -> None:
        """Act now, or once at the end of the pause. Needs a running event loop."""
        if self._pause is not None:
            self._is_requested = True
            return
        self._pause = asyncio.get_running_loop().call_later(self._interval, self._end_pause)
        self._act()

    def cancel(self) -> None:
        """Idempotent."""
        if self._pause is not None:
            self._pause.cancel()
        self._pause, self._is_requested = None, False

    def _end_pause(self) -> None:
        self._pause = None
        if self._is_requested:
            self._is_requested = False
            self.request()
