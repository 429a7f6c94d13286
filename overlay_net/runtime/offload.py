"""Moves long computations off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from overlay_net.runtime.gc_tuning import paused_gc

P = ParamSpec("P")
T = TypeVar("T")

THRESHOLD: Final = 5000
"""Number of values, such as routes, above which processing them would block the event loop for too long."""

_threads: Final = ThreadPoolExecutor(4, "offload")
"""Not the default ones of the event loop, which name resolution occupies while DNS does not answer."""


async def offload(size: int, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``step``, which processes ``size`` values: in a thread if there are many, otherwise directly."""
    if size < THRESHOLD:
        return step(*args, **kwargs)

    def without_gc() -> T:
        with paused_gc():
            return step(*args, **kwargs)

    return await asyncio.get_running_loop().run_in_executor(_threads, without_gc)
