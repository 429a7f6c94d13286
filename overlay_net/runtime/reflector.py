"""Keeps a store in sync with the API server: lists, then watches, indefinitely.

Errors never remove objects from the store, only a complete list without the object or a DELETED event does. When a
stream ends for any reason, the loop continues after a pause that grows until a stream delivers events again.

A watch continues the history of a list, unless the server's store is restored from a backup: then resource versions go
back and are assigned again. So the reflector lists again if it sees that, after a silence, and from time to time.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Set
from contextlib import aclosing
from typing import Protocol

from overlay_net.model.api import JsonObject, Listing, WatchEvent, is_older
from overlay_net.model.errors import Expired, OverlayNetError, Unavailable
from overlay_net.model.parse import find_version
from overlay_net.runtime.backoff import Backoff

log = logging.getLogger(__name__)

LONGEST_PAUSE = 8.0
"""Maximum number of seconds between two attempts, and thus of the delay after an outage of the API server.

With jitter, these pauses are four to eight seconds long, and 5,000 agents make about 830 attempts a second. An API
server that is back spends a handshake and a list of one object, about a millisecond, once per agent. An overloaded API
server answers 429 with Retry-After, which is respected.
"""

LONGEST_SILENCE = 120.0
"""Seconds without an event after which the next watch is preceded by a list.

A server sends a bookmark about once a minute (KEP-956). After a longer outage its store may be another one.
"""

RELIST_INTERVAL = 36_000.0
"""Seconds after which a list is due even if all watches seem to be complete; varied by a tenth."""


class Source(Protocol):
    """Objects of one kind on their API server; both methods raise the errors of model.errors."""

    def pages(self) -> AsyncGenerator[Listing, None]:
        """Yield one complete list, page by page."""
        ...

    def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        """Yield changes after ``resource_version`` until the server closes the stream, as it does periodically."""
        ...


class Cache(Protocol):
    """What a reflector fills, such as a Store."""

    def set(self, raw: JsonObject) -> str:
        """Add an object of a list. Returns its name."""
        ...

    def complete(self, names: Set[str], version: str) -> None:
        """End a list, at the resourceVersion ``version``, of the objects with these ``names``."""
        ...

    def apply(self, event: WatchEvent) -> None: ...
    def discard_versions(self) -> None:
        """Note that resource versions and generations repeat."""
        ...


class Reflector:
    """``relist`` is the interval in seconds between two lists in addition to those that are needed."""

    def __init__(
        self, source: Source, store: Cache, backoff: Backoff | None = None, relist: float = RELIST_INTERVAL
    ) -> None:
        self._source = source
        self._store = store
        self._backoff = backoff or Backoff(base=0.5, cap=LONGEST_PAUSE)
        self._relist = relist
        self._failures = 0
        self._logged = ""
        """The last error that was logged."""
        self._resource_version = ""
        """The last one that the server sent; the next watch starts there."""
        self._watch_until = float("-inf")
        """The time of the event loop after which a list is needed before the next watch."""
        self._relist_at = 0.0

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        while True:
            try:
                progress = await self._follow()
            except Expired as error:
                # List again, but after a pause: the server may answer 410 each time.
                self._watch_until = float("-inf")
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
        now = asyncio.get_running_loop().time()
        if now >= min(self._watch_until, self._relist_at):
            await self._list()
            self._relist_at = now + self._relist * random.uniform(0.9, 1.1)
        return await self._watch()

    async def _list(self) -> None:
        """Fill the store page by page, and give the event loop a turn after each object."""
        names = set()
        version = ""
        async with aclosing(self._source.pages()) as pages:
            async for page in pages:
                if not version and is_older(page.resource_version, self._resource_version):
                    log.warning(
                        "the API server's resourceVersion went back; reading everything again",
                        extra={"from": self._resource_version, "to": page.resource_version},
                    )
                    self._store.discard_versions()
                version = page.resource_version
                for item in page.items:
                    names.add(self._store.set(item))
                    del item
                    await asyncio.sleep(0)
                # Free the memory while waiting for the next page.
                del page
        self._store.complete(names, version)
        self._received(version)

    def _received(self, resource_version: str) -> None:
        self._resource_version = resource_version
        self._watch_until = asyncio.get_running_loop().time() + LONGEST_SILENCE

    async def _watch(self) -> bool:
        progress = False
        try:
            async with aclosing(self._source.watch(self._resource_version)) as events:
                async for event in events:
                    version = find_version(event.object)
                    if is_older(version, self._resource_version):
                        raise Expired(f"resourceVersion {version} in the watch follows {self._resource_version}")
                    self._store.apply(event)
                    self._received(version)
                    # Free the memory while waiting for the next event: an object may take 10 MB.
                    del event
                    if not progress:
                        progress = True
                        self._recovered()
                    # The stream does not suspend as long as events are buffered.
                    await asyncio.sleep(0)
        except Unavailable as error:
            if not progress:
                raise
            # The stream delivered events before it broke: one short pause, then continue after the last of them.
            await self._pause(error)
        return progress

    def _recovered(self) -> None:
        self._failures = 0
        if self._logged:
            log.info("watch resumed", extra={"after": self._logged})
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
