"""Keeps the checkpoint on disk up to date in a task of its own: nothing else waits for a disk that does not answer.

While a call hangs, what is to be stored replaces what was to be stored before.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from overlay_net.domain.kernel.checkpoint import (
    CheckpointContent,
    CheckpointProblem,
    Moment,
    Unusable,
    checkpoint_digest,
    encode_checkpoint,
    is_same_but_routes,
    is_same_checkpoint,
)
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteProbe
from overlay_net.runtime.daemon_thread import SerialCalls

log = logging.getLogger(__name__)

STALLED_AFTER: Final = 2.0
"""Seconds after which the disk counts as stalled, and a desired state is applied although it is not stored."""

RETRY_AFTER: Final = 10.0
"""Seconds until something that could not be stored is stored again."""

CONFIRM_INTERVAL: Final = 60.0
"""Minimum number of seconds between two writes of a confirmation of the same state."""


class Files(Protocol):
    """The files of the checkpoint. Every method may block, and raises OSError."""

    directory: Path

    def read(self) -> CheckpointContent: ...
    def write(self, state: bytes, confirmed: Moment) -> None: ...
    def confirm(self, digest: str, confirmed: Moment) -> None: ...
    def delete(self) -> object: ...


@dataclass(slots=True)
class _Target:
    """What is to be on disk; ``overlay`` None: no checkpoint."""

    overlay: NodeOverlay | None
    route_probes: tuple[RouteProbe, ...]
    confirmed: Moment
    awaited: bool
    """Whether the desired state is applied only when it is stored."""
    stored: bool = False
    attempted: bool = False
    """Whether it is stored or could not be stored."""


class CheckpointWriter:
    """``started`` is the present time. ``changed`` is called when any property has changed."""

    def __init__(self, files: Files, started: Moment, changed: Callable[[], None]) -> None:
        self._files = files
        self._changed = changed
        self._calls = SerialCalls(STALLED_AFTER, self._stall_changed)
        self._found: CheckpointContent | Unusable | None = None
        self._error = ""
        """Why the last call failed."""
        self._target: _Target | None = None
        self._stored: _Target | None = None
        """What is on disk; None: nothing, or something else."""
        self._digest: str | None = None
        """Digest of the state on disk; empty: there is none; None: unknown."""
        self._writing: _Target | None = None
        """What is being written, which may be on disk at any moment."""
        self._stamped = started
        """The latest confirmation that the files may have."""
        self._has_stamped = False
        """Whether this process has written a confirmation."""
        self._confirmed: Moment | None = None
        """A confirmation of the target that is to be stored."""
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        """Set when ``settled`` may have become true."""
        self._retry: asyncio.TimerHandle | None = None
        """Wakes ``run`` to store what could not be stored."""
        self._wait_end: asyncio.TimerHandle | None = None
        self._waited = False
        """Whether the target has been waited for long enough."""

    @property
    def is_read(self) -> bool:
        """Return whether the files of an earlier run were read, or the disk does not answer."""
        return self._found is not None or self._calls.stalled

    @property
    def found(self) -> CheckpointContent | Unusable:
        """The files of an earlier run, until they are forgotten."""
        return self._found or Unusable("Unreadable", f"{self._files.directory} has not been read")

    @property
    def settled(self) -> bool:
        """Return whether what was asked for is stored, could not be stored, or has been waited for long enough."""
        return self._target is None or self._target.attempted or self._waited or self._calls.stalled

    async def wait_settled(self) -> None:
        while not self.settled:
            self._settled.clear()
            await self._settled.wait()

    def differs_in_routes(self, overlay: NodeOverlay, route_probes: tuple[RouteProbe, ...]) -> bool:
        """Return whether the files differ from this state in routes at most, now and later, and none is unproven."""
        return not route_probes and all(
            each is not None
            and each.overlay is not None
            and not each.route_probes
            and is_same_but_routes(overlay, each.overlay)
            for each in (self._target, self._stored)
        )

    @property
    def problem(self) -> CheckpointProblem | None:
        """Why the files cannot be read or written."""
        directory = self._files.directory
        if self._calls.stalled:
            return CheckpointProblem("DiskStalled", f"the disk or file system of {directory} does not answer")
        return CheckpointProblem("WriteFailed", f"cannot write to {directory}: {self._error}") if self._error else None

    @property
    def outdated_since(self) -> Moment | None:
        """The latest confirmation of another state that the files may still have; None: they have no other state."""
        if self._target is None or self._target.stored:
            return None
        is_empty = self._digest == "" and self._writing in (None, self._target)
        return None if is_empty else self._stamped

    def forget_found(self) -> None:
        """Free the memory of the files of an earlier run."""
        self._found = CheckpointContent(None, None)

    def store(
        self,
        overlay: NodeOverlay | None,
        route_probes: tuple[RouteProbe, ...],
        confirmed: Moment,
        *,
        awaited: bool = True,
    ) -> None:
        """Store a desired state, or delete the checkpoint if there is none. Does nothing if it is the last one.

        Unless it is ``awaited``, ``changed`` is not called when it is stored.
        """
        last = self._target
        if last is not None and _is_same(last, overlay, route_probes):
            last.overlay = overlay
            return
        # Not restarted by further changes: a disk that is slow, but answers, must not delay all of them.
        if self.settled:
            self._start_wait()
        self._target = _Target(overlay, route_probes, confirmed, awaited)
        self._wake.set()

    def confirm(self, overlay: NodeOverlay | None, confirmed: Moment) -> None:
        """Store that the API server still has ``overlay``, if that was stored last; at most once a minute."""
        target = self._target
        if target is None or overlay is None or overlay is not target.overlay or not target.stored:
            return
        # A checkpoint that was restored after a boot has a confirmation of the boot before.
        is_of_another_boot = confirmed.boot != self._stamped.boot
        if is_of_another_boot or confirmed.uptime - self._stamped.uptime >= CONFIRM_INTERVAL:
            self._confirmed = confirmed
            self._wake.set()

    async def run(self) -> None:
        """Read the files, and then write until cancelled."""
        await self._read()
        while True:
            await self._wake.wait()
            self._wake.clear()
            target, confirmed, self._confirmed = self._target, self._confirmed, None
            if target is not None and not target.stored:
                self._conclude(target, await self._store(target))
            elif confirmed is not None and self._digest:
                self._stamped = confirmed
                self._set_error(await self._attempt(self._files.confirm, self._digest, confirmed))

    async def _read(self) -> None:
        try:
            found = await self._calls.call(self._files.read)
        except OSError as error:
            self._found = Unusable("Unreadable", f"cannot read {self._files.directory}: {_describe(error)}")
        else:
            self._found = found
            self._digest = "" if found.state is None else checkpoint_digest(found.state)
        self._changed()

    async def _store(self, target: _Target) -> str:
        """Store the target. Returns the error, or an empty string."""
        if target.overlay is None:
            return await self._delete()
        self._writing = target
        error = await self._attempt(self._write, target.overlay, target.route_probes, target.confirmed)
        self._writing = None
        if error:
            # An outdated state is worse than none: it may contain an address that this node must release.
            await self._delete()
        return error

    def _write(self, overlay: NodeOverlay, route_probes: tuple[RouteProbe, ...], confirmed: Moment) -> None:
        """Write a state unless the file has it. Raises OSError."""
        # In this thread, because 10,000 routes take 0.1 s.
        state = encode_checkpoint(overlay, route_probes)
        digest = checkpoint_digest(state)
        if digest != self._digest or not self._has_stamped:
            self._stamped = confirmed
            if digest != self._digest:
                self._files.write(state, confirmed)
            else:
                self._files.confirm(digest, confirmed)
        self._digest, self._has_stamped = digest, True

    async def _delete(self) -> str:
        error = await self._attempt(self._files.delete)
        self._digest = None if error else ""
        return error

    async def _attempt(self, step: Callable[..., object], *arguments: object) -> str:
        """Make a call. Returns the error, or an empty string."""
        try:
            await self._calls.call(step, *arguments)
        except OSError as error:
            return _describe(error)
        return ""

    def _conclude(self, target: _Target, error: str) -> None:
        is_first = not target.attempted
        target.stored, target.attempted = not error, True
        self._stored = None if error else target
        # One timer whatever the number of failures, each of which would cause another one.
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(RETRY_AFTER, self._wake.set) if error else None
        if target is self._target:
            self._end_wait()
        self._settled.set()
        if not self._set_error(error) and is_first and target.awaited:
            self._changed()

    def _set_error(self, error: str) -> bool:
        """Set the error of the last call. Returns whether it is another one than before."""
        if error == self._error:
            return False
        if error:
            log.warning("cannot update the checkpoint", extra={"directory": str(self._files.directory), "error": error})
        self._error = error
        self._changed()
        return True

    def _stall_changed(self) -> None:
        directory = {"directory": str(self._files.directory)}
        if self._calls.stalled:
            log.warning("the disk of the checkpoint does not answer", extra=directory)
        else:
            log.info("the disk of the checkpoint answers again", extra=directory)
        self._settled.set()
        self._changed()

    def _start_wait(self) -> None:
        self._end_wait()
        self._wait_end = asyncio.get_running_loop().call_later(STALLED_AFTER, self._wait_long_enough)

    def _wait_long_enough(self) -> None:
        self._waited = True
        self._settled.set()
        self._changed()

    def _end_wait(self) -> None:
        self._waited = False
        if self._wait_end is not None:
            self._wait_end.cancel()


class NoCheckpointWriter:
    """Null object for an unset state_dir: stores nothing."""

    is_read, settled, problem, outdated_since = True, True, None, None
    found = Unusable("Off", "no state_dir is set")

    def forget_found(self) -> None:
        return

    async def wait_settled(self) -> None:
        return

    def differs_in_routes(self, overlay: NodeOverlay, route_probes: tuple[RouteProbe, ...]) -> bool:
        return False

    def store(
        self,
        overlay: NodeOverlay | None,
        route_probes: tuple[RouteProbe, ...],
        confirmed: Moment,
        *,
        awaited: bool = True,
    ) -> None:
        return

    def confirm(self, overlay: NodeOverlay | None, confirmed: Moment) -> None:
        return

    async def run(self) -> None:
        return


def _is_same(target: _Target, overlay: NodeOverlay | None, route_probes: tuple[RouteProbe, ...]) -> bool:
    if overlay is None or target.overlay is None:
        return overlay is target.overlay
    return is_same_checkpoint(overlay, target.overlay) and route_probes == target.route_probes


def _describe(error: OSError) -> str:
    return error.strerror or str(error)
