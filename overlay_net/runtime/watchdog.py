"""Ends a process whose event loop is stuck, so that it is started again."""

import asyncio
import faulthandler
import sys
from typing import Final

STUCK_AFTER: Final = 60.0
"""Seconds after which an event loop that runs nothing else counts as stuck."""


async def watch_event_loop(stuck_after: float = STUCK_AFTER) -> None:
    """Run until cancelled. If the event loop is stuck, print the stack of every thread and exit with code 1.

    faulthandler does so from a thread that needs neither the event loop nor the interpreter's lock.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(stuck_after, exit=True, file=sys.stderr)
            await asyncio.sleep(stuck_after / 6)
    finally:
        faulthandler.cancel_dump_traceback_later()
