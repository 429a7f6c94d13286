"""Polls the sysctls of our links, because the kernel notifies of changes to a few of them only."""

import asyncio
from collections.abc import Callable
from typing import Final

POLL_INTERVAL: Final = 1.0
"""Seconds. Reading two dozen small files takes 0.2 ms; observing the whole kernel takes far longer."""


async def watch_sysctls(changed: Callable[[], bool], wake: Callable[[], None], every: float = POLL_INTERVAL) -> None:
    """Call ``wake`` whenever the sysctls differ from the last observation, until cancelled."""
    while True:
        await asyncio.sleep(every)
        if changed():
            wake()
