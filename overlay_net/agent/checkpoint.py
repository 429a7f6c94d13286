"""The checkpoint: the last desired state of this node on disk, and when the agent restores it after a restart.

The checkpoint is used only while the API server is unreachable, and only as long as the address cannot belong to
another node (domain.kernel.checkpoint).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Protocol

from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    CheckpointContent,
    CheckpointProblem,
    Moment,
    Unusable,
    check_age,
    decode_checkpoint,
)
from overlay_net.model.api import Listing, WatchEvent
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteProbe
from overlay_net.runtime.reflector import Source

log = logging.getLogger(__name__)

CONFIRM_INTERVAL: Final = 15.0
"""Seconds between two checks for a newer confirmation to store."""


class Writer(Protocol):
    """Stores the checkpoint in the background."""

    @property
    def is_read(self) -> bool: ...
    @property
    def found(self) -> CheckpointContent | Unusable: ...
    @property
    def settled(self) -> bool: ...
    @property
    def problem(self) -> CheckpointProblem | None: ...
    @property
    def outdated_since(self) -> Moment | None: ...
    def forget_found(self) -> None: ...
    async def wait_settled(self) -> None: ...
    def differs_in_routes(self, overlay: NodeOverlay, route_probes: tuple[RouteProbe, ...]) -> bool: ...
    def store(
        self,
        overlay: NodeOverlay | None,
        route_probes: tuple[RouteProbe, ...],
        confirmed: Moment,
        *,
        awaited: bool = True,
    ) -> None: ...
    def confirm(self, overlay: NodeOverlay | None, confirmed: Moment) -> None: ...


class NodeCheckpoint:
    """``unreachable`` is called if the API server does not answer after the agent started."""

    def __init__(
        self,
        writer: Writer,
        node: str,
        trusted_for: timedelta,
        clock: Callable[[], Moment],
        unreachable: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer = writer
        self._node = node
        self._trusted_for = trusted_for
        self._clock = clock
        self._unreachable = unreachable
        self._loaded: Checkpoint | Unusable | None = None
        """The checkpoint of an earlier run, decoded once when it is first needed."""
        self._is_unreachable = False
        self._is_synced = False
        self._confirmed: Moment | None = None
        self._logged = ""

    @property
    def confirmed(self) -> Moment | None:
        """When the API server last confirmed the object to this process."""
        return self._confirmed

    @property
    def is_read(self) -> bool:
        """Return whether the checkpoint of an earlier run was read, or its disk does not answer."""
        return self._writer.is_read

    @property
    def problem(self) -> CheckpointProblem | None:
        """Why the checkpoint cannot be stored."""
        return self._writer.problem

    @property
    def is_outdated(self) -> bool:
        """Return whether a restart could restore another desired state than the present one."""
        since = self._writer.outdated_since
        return since is not None and check_age(since, self._clock(), self._trusted_for) is None

    def now(self) -> Moment:
        return self._clock()

    def api_confirmed(self, at: Moment) -> None:
        """The API server confirmed the object as of ``at``."""
        self._confirmed = at

    def api_failed(self) -> None:
        """The API server did not answer."""
        if not self._is_synced:
            self._is_unreachable = True
            self._unreachable()

    def api_synced(self) -> None:
        """The object, or its absence, was read: the checkpoint of an earlier run is not restored any more."""
        self._is_synced = True

    def usable(self) -> NodeOverlay | None:
        """Return the desired state while the API server is unreachable; None if unknown: leave the kernel unchanged."""
        if not self._is_unreachable or self._is_synced or not self.is_read:
            return None
        found = self._load()
        if isinstance(found, Checkpoint):
            found = check_age(found.confirmed, self._clock(), self._trusted_for) or found
        self._log(found)
        return found.overlay if isinstance(found, Checkpoint) else None

    def last_applied(self) -> NodeOverlay | None:
        """Return the object that an earlier run applied last, however long ago; None if unknown."""
        found = self._load()
        return found.overlay if isinstance(found, Checkpoint) else None

    def may_follow(self, overlay: NodeOverlay | None, route_probes: tuple[RouteProbe, ...]) -> bool:
        """Return whether the desired state may be applied before it is stored.

        A change of routes alone may: after a crash in between, it is as if the change had arrived later.
        """
        if overlay is None or overlay.deleting or _lacks_routes(overlay):
            return False
        return self._writer.differs_in_routes(overlay, route_probes)

    async def wait_settled(self) -> None:
        """Wait until the desired state of the last ``update`` is stored, or could not be stored in time."""
        await self._writer.wait_settled()

    def update(
        self, overlay: NodeOverlay | None, route_probes: tuple[RouteProbe, ...], *, awaited: bool = True
    ) -> bool:
        """Store the desired state, and return whether it may be applied: it is on disk, or the disk takes too long.

        The kernel is changed only then, unless it ``may_follow``, and a report is always written only then: an address
        that the controller releases must not be restored from the checkpoint (``is_outdated``), and after a crash a
        change must be known to be unproven. ``awaited``: the agent is to be woken when it is stored.
        """
        # An object from the API server has its confirmation; one from the checkpoint keeps its earlier one.
        confirmed = self._confirmed or (self._loaded.confirmed if isinstance(self._loaded, Checkpoint) else None)
        if self._is_synced:
            self._loaded = None
            self._writer.forget_found()
        if overlay is None or overlay.deleting or _lacks_routes(overlay):
            self._writer.store(None, (), confirmed or self._clock(), awaited=awaited)
        elif confirmed is not None:
            self._writer.store(overlay, route_probes, confirmed, awaited=awaited)
        return self._writer.settled

    async def keep_confirming(self, current: Callable[[], NodeOverlay | None]) -> None:
        """Periodically store that the API server still has the same object, until cancelled.

        ``current`` returns the desired state that this object was resolved to; None: not yet.
        """
        while True:
            await asyncio.sleep(CONFIRM_INTERVAL)
            if self._confirmed is not None:
                self._writer.confirm(current(), self._confirmed)

    def _load(self) -> Checkpoint | Unusable:
        if self._loaded is None:
            found = self._writer.found
            if isinstance(found, Unusable):
                # The disk may answer later.
                return found
            self._loaded = decode_checkpoint(found, self._node)
            self._writer.forget_found()
        return self._loaded

    def _log(self, found: Checkpoint | Unusable) -> None:
        """Log each outcome once."""
        reason = "Used" if isinstance(found, Checkpoint) else found.reason
        if reason == self._logged:
            return
        self._logged = reason
        if isinstance(found, Checkpoint):
            log.info(
                "no answer from the API server; using the checkpoint",
                extra={"node": found.overlay.name, "confirmed": found.confirmed.wall.isoformat(timespec="seconds")},
            )
        else:
            log.warning(
                "no answer from the API server; leaving the kernel as it is",
                extra={"reason": found.reason, "error": found.message},
            )


def _lacks_routes(overlay: NodeOverlay) -> bool:
    """Return whether the kernel may have routes of this node that the object does not have: they would be deleted."""
    return overlay.unknown_sets is not None and overlay.unknown_sets.without_routes


class ConfirmingSource:
    """A source that notifies the checkpoint whether the API server answers."""

    def __init__(self, source: Source, checkpoint: NodeCheckpoint) -> None:
        self._source = source
        self._checkpoint = checkpoint

    async def pages(self) -> AsyncGenerator[Listing, None]:
        requested = self._checkpoint.now()
        try:
            async with aclosing(self._source.pages()) as pages:
                async for page in pages:
                    yield page
                    del page
        except OverlayNetError:
            self._checkpoint.api_failed()
            raise
        self._checkpoint.api_confirmed(requested)

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        async with aclosing(self._source.watch(resource_version)) as events:
            async for event in events:
                received = self._checkpoint.now()
                yield event
                del event
                # Bookmarks count as well: they confirm that nothing has changed.
                self._checkpoint.api_confirmed(received)
