"""Polls the sysctls of our links: of most of them (here, all but rp_filter) the kernel sends no notification."""

import asyncio
from collections.abc import Callable
from typing import Final

POLL_INTERVAL: Final = 1.0
"""Seconds. Reading a dozen small files takes a tenth of a millisecond, observing the whole kernel far more."""


async def watch_sysctls(changed: Callable[[], bool], wake: Callable[[], None], every: float = POLL_INTERVAL) -> None:
    """Call ``wake`` whenever they differ from the last observation; until cancelled."""
    while True:
        await asyncio.sleep(every)
        if changed():
            wake()
