"""A deduplicating queue of keys: a key added several times is queued once, and processed by one worker at a time.

Modelled on k8s.io/client-go/util/workqueue: a key that is added during its processing is processed again afterwards, so
no change is missed. Adding a delayed key makes it ready at once. Unlike there, workers share one thread, so the queue
hands out at most one key per turn of the event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from overlay_net.runtime.backoff import Backoff


class Observer(Protocol):
    """Notified of each key; times are in seconds."""

    def added(self) -> None: ...
    def taken(self, waited: float) -> None: ...
    def done(self, worked: float) -> None: ...
    def retried(self) -> None: ...


class WorkQueue:
    def __init__(self, backoff: Backoff | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._observer: Observer | None = None
        self._ready: deque[str] = deque()
        self._waiting: dict[str, float] = {}
        """Keys in ``_ready``, or to be added to it when their worker is done, with the time they were added."""
        self._processing: dict[str, float] = {}
        """Keys in progress, with the time at which their processing started."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._added = asyncio.Event()
        """Wakes the worker that waits for a key."""
        self._turn = asyncio.Lock()
        """Held by the worker that gets the next key."""

    def __len__(self) -> int:
        """The number of keys that are ready to be processed."""
        return len(self._ready)

    def observe(self, observer: Observer) -> None:
        self._observer = observer

    def processing(self) -> list[float]:
        """Return the processing time so far, in seconds, of each key in progress."""
        now = self._clock()
        return [now - began for began in self._processing.values()]

    def add(self, key: str) -> None:
        """Process ``key`` as soon as possible."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._waiting:
            return
        self._waiting[key] = self._clock()
        if self._observer is not None:
            self._observer.added()
        if key not in self._processing:
            self._ready.append(key)
            self._added.set()

    def add_after(self, key: str, seconds: float) -> None:
        """Process ``key`` after ``seconds``, unless it is already due earlier."""
        if seconds <= 0:
            self.add(key)
            return
        if key in self._waiting and key not in self._processing:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self.add, key)

    def retry(self, key: str, *, at_least: float | None = None) -> float:
        """Process ``key`` again after its backoff. Returns the delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(failures, at_least=at_least)
        self.add_after(key, delay)
        if self._observer is not None:
            self._observer.retried()
        return delay

    def wake_delayed(self) -> None:
        """Process all delayed keys now, because the condition that they wait for may have changed."""
        for key in tuple(self._timers):
            self.add(key)

    def forget(self, key: str) -> None:
        """Reset the backoff of ``key`` after a success."""
        self._failures.pop(key, None)

    async def get(self) -> str:
        """Wait for the next key, which belongs to the caller until ``done``."""
        async with self._turn:
            # Otherwise workers that find nothing to do would process thousands of keys without a turn for anything
            # else, such as the renewal of the lease.
            await asyncio.sleep(0)
            while not self._ready:
                self._added.clear()
                await self._added.wait()
            return self._take()

    def _take(self) -> str:
        key = self._ready.popleft()
        now = self._clock()
        waited = now - self._waiting.pop(key)
        self._processing[key] = now
        if self._observer is not None:
            self._observer.taken(waited)
        return key

    def done(self, key: str) -> None:
        """Finish processing ``key``; if it was added in the meantime, it is ready again."""
        began = self._processing.pop(key, None)
        if began is not None and self._observer is not None:
            self._observer.done(self._clock() - began)
        if key in self._waiting:
            self._ready.append(key)
            self._added.set()
