"""The last desired state of an earlier run, for the time in which the API server has not answered this one yet."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta

from overlay_net.domain.kernel.checkpoint import Checkpoint, Moment, Unusable, distrust
from overlay_net.model.api import Listing, WatchEvent
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.reflector import Source

log = logging.getLogger(__name__)


class Recall:
    """What is kept is believed only while the API server is known to be out of reach, and only for a while."""

    def __init__(
        self, kept: Callable[[], Checkpoint | Unusable], resurrect_for: timedelta, moment: Callable[[], Moment]
    ) -> None:
        """``kept`` reads it, once, when it is needed."""
        self._read = kept
        self._kept: Checkpoint | Unusable | None = None
        self._resurrect_for = resurrect_for
        self._moment = moment
        self._unreachable = False
        self._told = ""

    def begin(self) -> None:
        """The API server does not answer."""
        self._unreachable = True

    def end(self) -> None:
        """The API server told how things are: what was kept is not needed any more."""
        self._kept = Unusable("Over", "the API server has answered since")

    @property
    def confirmed(self) -> Moment | None:
        """When the state that is brought back was confirmed; None: none is."""
        return self._kept.confirmed if isinstance(self._kept, Checkpoint) else None

    def overlay(self) -> NodeOverlay | None:
        """What the node must have; None: nobody knows, so all that is in the kernel stays as it is."""
        if not self._unreachable:
            return None
        usable = self._usable()
        if isinstance(usable, Unusable):
            text = f"nothing is brought back and nothing removed: {usable.message}"
            self._tell(logging.WARNING, usable.reason, text)
            return None
        self._tell(logging.INFO, "Used", f"the last state is used, confirmed at {usable.confirmed.wall:%F %T}")
        return usable.overlay

    def _usable(self) -> Checkpoint | Unusable:
        if self._kept is None:
            self._kept = self._read()
        if isinstance(self._kept, Unusable):
            return self._kept
        return distrust(self._kept.confirmed, self._moment(), self._resurrect_for) or self._kept

    def _tell(self, level: int, reason: str, text: str) -> None:
        if reason != self._told:
            log.log(level, "no answer from the API server; %s", text, extra={"reason": reason})
            self._told = reason


class Listened:
    """A source that knows when the API server last said how things are, and whether it failed to."""

    def __init__(self, source: Source, moment: Callable[[], Moment], failed: Callable[[], None]) -> None:
        self._source = source
        self._moment = moment
        self._failed = failed
        self.confirmed: Moment | None = None

    async def list(self) -> Listing:
        asked = self._moment()
        try:
            listing = await self._source.list()
        except OverlayNetError:
            self._failed()
            raise
        self.confirmed = asked
        return listing

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        async with aclosing(self._source.watch(resource_version)) as events:
            async for event in events:
                heard = self._moment()
                yield event
                del event
                # Bookmarks count as well: nothing changed up to here.
                self.confirmed = heard
