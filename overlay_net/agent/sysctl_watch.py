"""Looks whether a sysctl was changed: the kernel tells nobody of most of them (all but rp_filter, here)."""

import asyncio
from collections.abc import Callable
from typing import Final

EVERY: Final = 1.0
"""Seconds. Reading a dozen small files takes a tenth of a millisecond, a look at the whole kernel far more."""


async def watch_sysctls(changed: Callable[[], bool], wake: Callable[[], None], every: float = EVERY) -> None:
    """Call ``wake`` whenever they are not what the last look at the kernel saw; until cancelled."""
    while True:
        await asyncio.sleep(every)
        if changed():
            wake()
