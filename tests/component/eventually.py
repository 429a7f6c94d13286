"""Waiting for a condition of the cluster."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 60.0) -> None:
    """Look until it holds; fails the test with ``what`` when it does not come about."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.05)
