"""Moves long computations off the event loop."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from overlay_net.runtime.gc_tuning import paused_gc

P = ParamSpec("P")
T = TypeVar("T")

THRESHOLD: Final = 5000
"""Number of values, such as routes, above which processing them would block the event loop for too long."""


async def offload(size: int, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``step``, which processes ``size`` values: in a thread if there are many, otherwise directly."""
    if size < THRESHOLD:
        return step(*args, **kwargs)

    def without_gc() -> T:
        with paused_gc():
            return step(*args, **kwargs)

    return await asyncio.to_thread(without_gc)
