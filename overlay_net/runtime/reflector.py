"""Keeps a store in sync with the API server: lists, then watches, indefinitely.

Errors never remove objects from the store, only a complete list without the object or a DELETED event does. When a
stream ends for any reason, the loop continues after a pause that grows until a stream delivers events again.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from overlay_net.model.api import Listing, WatchEvent
from overlay_net.model.errors import Expired, OverlayNetError, Unavailable
from overlay_net.model.parse import find_object, parse_text
from overlay_net.runtime.backoff import Backoff
from overlay_net.runtime.store import Store

log = logging.getLogger(__name__)

LONGEST_PAUSE = 8.0
"""Maximum number of seconds between two attempts, and thus of the delay after an outage of the API server.

With jitter, these pauses are four to eight seconds long, and 5,000 agents make about 830 attempts a second. An API
server that is back spends a handshake and a list of one object, about a millisecond, once per agent. An overloaded API
server answers 429 with Retry-After, which is respected.
"""


class Source(Protocol):
    """Objects of one kind on their API server; both methods raise the errors of model.errors."""

    async def list(self) -> Listing: ...

    def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        """Yield changes after ``resource_version`` until the server closes the stream, as it does periodically."""
        ...


class Reflector:
    def __init__(self, source: Source, store: Store[Any], backoff: Backoff | None = None) -> None:
        self._source = source
        self._store = store
        self._backoff = backoff or Backoff(base=0.5, cap=LONGEST_PAUSE)
        self._failures = 0
        self._logged = ""
        """The last error that was logged."""
        self._resource_version: str | None = None
        """Where the next watch starts; None: list first."""

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        while True:
            try:
                progress = await self._follow()
            except Expired as error:
                # List again, but after a pause: the server may answer 410 each time.
                self._resource_version = None
                await self._pause(error)
            except OverlayNetError as error:
                await self._pause(error)
            else:
                if progress:
                    self._failures = 0
                else:
                    # The stream was empty; the next one may end immediately as well, so pause.
                    await self._pause(None)

    async def _follow(self) -> bool:
        """List if necessary, then watch until the stream ends. Returns whether it delivered any event."""
        if self._resource_version is None:
            self._resource_version = await self._list()
        return await self._watch(self._resource_version)

    async def _list(self) -> str:
        """Fill the store. Returns the version to watch from; the unparsed objects are freed on return."""
        listing = await self._source.list()
        self._store.replace(listing)
        return listing.resource_version

    async def _watch(self, resource_version: str) -> bool:
        progress = False
        try:
            async with aclosing(self._source.watch(resource_version)) as events:
                async for event in events:
                    self._store.apply(event)
                    self._resource_version = parse_text(find_object(event.object, "metadata").get("resourceVersion"))
                    # Free the memory while waiting for the next event: an object may take 10 MB.
                    del event
                    if not progress:
                        progress = True
                        self._recovered()
        except Unavailable as error:
            if not progress:
                raise
            # The stream delivered events before it broke: one short pause, then continue after the last of them.
            await self._pause(error)
        return progress

    def _recovered(self) -> None:
        self._failures = 0
        if self._logged:
            log.info("watch resumed")
            self._logged = ""

    async def _pause(self, error: OverlayNetError | None) -> None:
        self._failures += 1
        at_least = error.retry_after if isinstance(error, Unavailable) else None
        delay = self._backoff.delay(self._failures, at_least=at_least)
        text = "" if error is None else str(error)
        if text and text != self._logged:
            # Each error is logged once, not with every attempt.
            log.warning("watch failed; keeping the cached state", extra={"error": text})
            self._logged = text
        await asyncio.sleep(delay)
