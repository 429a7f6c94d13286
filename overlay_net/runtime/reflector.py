"""Keeps a store equal to what the API server has: list, then watch from there, for ever.

No error ever empties the store: only a complete list or a DELETED event says that something is gone. Every way in which
a stream can end leads back to the loop with a pause that grows while nothing comes of it.
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
"""Seconds between two tries, at the most: so late does a client learn that the API server is back after a long outage.

Pauses are four to eight seconds then, spread at random. Five thousand agents make about 830 tries a second of that: a
connection that is refused costs a server that is away nothing, one that is back a handshake and a list of one object,
a millisecond or so, and only once for each agent. A server with too much to do says so by 429 and Retry-After, which
is obeyed.
"""


class Source(Protocol):
    """One kind of object at its API server; both raise the errors of model.errors."""

    async def list(self) -> Listing: ...

    def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        """Changes after ``resource_version``; ends when the server closes the stream, which it does now and then."""
        ...


class Reflector:
    def __init__(self, source: Source, store: Store[Any], backoff: Backoff | None = None) -> None:
        self._source = source
        self._store = store
        self._backoff = backoff or Backoff(base=0.5, cap=LONGEST_PAUSE)
        self._failures = 0
        self._last_complaint = ""

    async def run(self) -> None:
        """Follow the server until cancelled."""
        resource_version: str | None = None
        while True:
            try:
                if resource_version is None:
                    resource_version = await self._list()
                progress, resource_version = await self._watch(resource_version)
            except Expired as error:
                # Listing again is the remedy, yet a server that always says so must not be stormed.
                resource_version = None
                await self._pause(error)
            except OverlayNetError as error:
                await self._pause(error)
            else:
                if progress:
                    self._failures = 0
                else:
                    # A stream that ends with nothing in it: served again at once it would come back at once.
                    await self._pause(None)

    async def _list(self) -> str:
        """Read everything: the version from which a watch goes on. The objects as they came are kept no longer."""
        listing = await self._source.list()
        self._store.replace(listing)
        return listing.resource_version

    async def _watch(self, resource_version: str) -> tuple[bool, str]:
        """Follow one stream to its end: whether anything came, and where to go on."""
        progress = False
        try:
            async with aclosing(self._source.watch(resource_version)) as events:
                async for event in events:
                    self._store.apply(event)
                    resource_version = parse_text(find_object(event.object, "metadata").get("resourceVersion"))
                    # The next one may be a minute away, and this one a megabyte of text, ten as objects.
                    del event
                    if not progress:
                        progress = True
                        self._recovered()
        except Unavailable as error:
            if not progress:
                raise
            # It had worked: what was seen stays seen, and the stream goes on from there after one short pause.
            await self._pause(error)
        return progress, resource_version

    def _recovered(self) -> None:
        self._failures = 0
        if self._last_complaint:
            log.info("the API server answers again")
            self._last_complaint = ""

    async def _pause(self, error: OverlayNetError | None) -> None:
        self._failures += 1
        at_least = error.retry_after if isinstance(error, Unavailable) else None
        delay = self._backoff.delay(self._failures, at_least=at_least)
        complaint = "" if error is None else str(error)
        if complaint and complaint != self._last_complaint:
            # The same complaint again and again says nothing new.
            log.warning("the watch is interrupted, the last state stays: %s", complaint)
            self._last_complaint = complaint
        await asyncio.sleep(delay)
