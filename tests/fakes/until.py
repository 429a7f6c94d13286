"""Waits for what other tasks, threads or the kernel bring about."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], description: str = "the condition", within: float = 20.0) -> None:
    """Wait until ``condition`` holds; fails the test with ``description`` after ``within`` seconds."""
    try:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"timed out: {description}") from None
