"""Calls that may never return, such as those to a disk that has failed, in threads that nothing waits for."""

import _thread
import asyncio
import contextlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_daemon_thread(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``step`` in a thread of its own, which ends with the call.

    Unlike with ``asyncio.to_thread``, a call that hangs occupies no thread that others use, and the exit of the
    process does not wait for it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            result = step(*args, **kwargs)
        except Exception as error:
            conclude(done.set_exception, error)
        else:
            conclude(done.set_result, result)

    def conclude(set_outcome: Callable[..., None], outcome: object) -> None:
        # The event loop is closed if the process ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if done.done() else set_outcome(outcome))

    # Thread.start blocks the event loop until the thread runs, which takes milliseconds on a busy node.
    _thread.start_new_thread(call, ())
    return await done


class SerialCalls:
    """Makes one call at a time, so that at most one thread hangs; ``changed`` is called when ``stalled`` changes."""

    def __init__(self, stalled_after: float, changed: Callable[[], None]) -> None:
        self._stalled_after = stalled_after
        self._changed = changed
        self._lock = asyncio.Lock()
        self.stalled = False
        """Whether a call has been running for ``stalled_after`` seconds."""

    async def call(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._lock:
            timer = asyncio.get_running_loop().call_later(self._stalled_after, self._set_stalled, True)
            try:
                return await in_daemon_thread(step, *args, **kwargs)
            finally:
                timer.cancel()
                self._set_stalled(False)

    def _set_stalled(self, stalled: bool) -> None:
        if stalled != self.stalled:
            self.stalled = stalled
            self._changed()
