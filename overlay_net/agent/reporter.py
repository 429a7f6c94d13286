"""Writes the latest report in a task of its own, so that no repair waits for the API server."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from overlay_net.model.errors import Conflict, OverlayNetError, Unavailable
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.backoff import Backoff

log = logging.getLogger(__name__)

WriteStatus: TypeAlias = Callable[[NodeOverlay, Report], Awaitable[None]]
"""Raises OverlayNetError."""


async def _no_wait() -> None:
    return


class Reporter:
    """``written`` is called when the object has the latest report; ``may_write`` waits until it may be written."""

    def __init__(
        self,
        write: WriteStatus,
        written: Callable[[], None],
        backoff: Backoff | None = None,
        may_write: Callable[[], Awaitable[None]] = _no_wait,
    ) -> None:
        self._write = write
        self._written = written
        self._may_write = may_write
        self._backoff = backoff or Backoff()
        self._failures = 0
        self._last: tuple[NodeOverlay, Report] | None = None
        """The last report, and the version of the object that it was made for."""
        self._queued: tuple[NodeOverlay, Report] | None = None
        """The report to write; it stays until it is written or replaced."""
        self._added = asyncio.Event()
        self._object_changed = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Return whether no report waits to be written."""
        return self._queued is None

    def latest(self, overlay: NodeOverlay) -> Report:
        """Return the last report about this object, which the object may not have yet."""
        return self._last[1] if self._last is not None and self._last[0].uid == overlay.uid else overlay.report

    def is_shown(self, old: NodeOverlay | None, new: NodeOverlay | None) -> bool:
        """Return whether the object has changed only in that it has the last report now."""
        return old is not None and new is not None and old.differs_in_report(new) and new.report == self.latest(new)

    def submit(self, overlay: NodeOverlay, report: Report) -> None:
        """Write ``report`` unless the object has it; it replaces one that is not written yet.

        A report is written once for each version of the object: that it is not there yet proves nothing.
        """
        is_same_object = self._last is not None and _is_same_version(self._last[0], overlay)
        if is_same_object and self.latest(overlay) == report:
            return
        # The object has the last report by now, even if the watch has not shown it.
        is_outdated = is_same_object and self._queued is None and self.latest(overlay) != overlay.report
        self._last = (overlay, report)
        self._queued = None if report == overlay.report and not is_outdated else self._last
        self._added.set()
        if not is_same_object:
            self._object_changed.set()

    async def run(self) -> None:
        """Write reports until cancelled. A write that fails is tried again with the latest report."""
        while True:
            queued = await self._next()
            self._object_changed.clear()
            delay = await self._attempt(*queued)
            if delay is not None:
                await self._pause(delay)
            elif self._queued is queued:
                self._queued = None
                self._written()

    async def _next(self) -> tuple[NodeOverlay, Report]:
        """Wait for a report that may be written, and return it."""
        while True:
            self._added.clear()
            if self._queued is not None:
                await self._may_write()
            if (queued := self._queued) is not None:
                return queued
            await self._added.wait()

    async def _attempt(self, overlay: NodeOverlay, report: Report) -> float | None:
        """Write a report. Returns the seconds until the next attempt, or None if it is written."""
        try:
            await self._write(overlay, report)
        except Conflict as error:
            # Usual while a node joins: the next version is on its way, and ends the pause.
            delay = self._next_delay(None)
            log.info(
                "the object has changed; writing the report again",
                extra=_fields(overlay, delay) | {"error": str(error)},
            )
            return delay
        except OverlayNetError as error:
            delay = self._next_delay(error.retry_after if isinstance(error, Unavailable) else None)
            log.warning("the report was not written", extra=_fields(overlay, delay) | {"error": str(error)})
            return delay
        except Exception:
            delay = self._next_delay(None)
            log.exception("the report was not written", extra=_fields(overlay, delay))
            return delay
        self._failures = 0
        return None

    def _next_delay(self, at_least: float | None) -> float:
        self._failures += 1
        return self._backoff.delay(self._failures, at_least=at_least)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until a new version of the object shows that the API server answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._object_changed.wait()


def _is_same_version(one: NodeOverlay, other: NodeOverlay) -> bool:
    """Return whether both are from the same version of the object, if with other routes of its route sets."""
    return (one.uid, one.resource_version) == (other.uid, other.resource_version)


def _fields(overlay: NodeOverlay, delay: float) -> dict[str, str]:
    return {"node": overlay.name, "retry_in": f"{delay:.1f}s"}
