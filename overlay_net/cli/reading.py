"""A request whose failure is an answer as well: what cannot be read is unread, with the reason."""

from collections.abc import Awaitable
from typing import Final, TypeVar

from overlay_net.domain.diagnosis.snapshot import Read, Reading, Unread
from overlay_net.model.errors import OverlayNetError

T = TypeVar("T")

AT_ONCE: Final = 10
"""The number of requests that are open at the same time."""


async def attempt(request: Awaitable[T]) -> Reading[T]:
    try:
        return Read(await request)
    except OverlayNetError as error:
        return Unread(str(error))
