"""Long work beside the event loop."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from overlay_net.runtime.gc_tuning import paused_gc

P = ParamSpec("P")
T = TypeVar("T")

MANY: Final = 5000
"""Routes, say, from which on going through them would keep the event loop away for too long."""


async def offload(size: int, step: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
    """Do ``step``, which goes through ``size`` values, at once; or in a thread where they are many."""
    if size < MANY:
        return step(*arguments, **more)

    def undisturbed() -> T:
        with paused_gc():
            return step(*arguments, **more)

    return await asyncio.to_thread(undisturbed)
