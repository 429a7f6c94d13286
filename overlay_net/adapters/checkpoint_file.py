"""The node's last desired state in a directory of the host: written so that a power failure leaves the old or the new.

What is in the files, and whether it is believed, is decided in domain.last_state.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    Moment,
    Unusable,
    decode_checkpoint,
    digest,
    encode_checkpoint,
    is_same,
    stamp_bytes,
)
from overlay_net.model.names import label_value
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteProbe

log = logging.getLogger(__name__)

STAMP_EVERY = 60.0
"""Seconds between two confirmations of one state that are written."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MAX_BYTES = 64 * 2**20


def moment() -> Moment:
    """Now, on both clocks."""
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Moment(datetime.now(UTC), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


class CheckpointFile:
    """One node's files in ``directory``. No failure to write ends anything: the dataplane does not depend on it."""

    def __init__(self, directory: Path, node: str) -> None:
        name = label_value(node)
        self._directory = directory
        self._node = node
        self.state = directory / f"{name}.state"
        self.stamp = directory / f"{name}.confirmed"
        self._written = ""
        """Digest of the state that is in the file for certain, of this process's own writing."""
        self._overlay: NodeOverlay | None = None
        self._trials: tuple[RouteProbe, ...] = ()
        self._stamped: Moment | None = None
        self._complaint = ""
        # Files are written in a thread, as a disk may take its time: one at a time.
        self._turn = asyncio.Lock()

    def recall(self) -> Checkpoint | Unusable:
        """What an earlier run left."""
        try:
            return decode_checkpoint(_read(self.state), _read(self.stamp), self._node)
        except OSError as error:
            return Unusable("Unreadable", f"{self.state}: {error.strerror}")

    async def remember(
        self, overlay: NodeOverlay, confirmed: Moment, route_probes: tuple[RouteProbe, ...] = ()
    ) -> None:
        """Keep what the node must have, before it is acted on. Costs nothing while that is the same."""
        async with self._turn:
            if is_same(overlay, self._overlay) and route_probes == self._trials:
                self._overlay = overlay
                return
            # In a thread: a tenth of a second for ten thousand routes.
            content = await asyncio.to_thread(encode_checkpoint, overlay, route_probes)
            written = digest(content)
            if written != self._written:
                self._written = ""
                if not await self._attempt(self._keep, content, confirmed):
                    # An older state is worse than none: it may name an address that this node gives back now.
                    await self._attempt(self._remove)
                    return
                self._written, self._stamped, self._complaint = written, confirmed, ""
            self._overlay, self._trials = overlay, route_probes

    async def confirm(self, overlay: NodeOverlay | None, confirmed: Moment) -> None:
        """The API said again that ``overlay`` is what the node must have; written once a minute at the most."""
        async with self._turn:
            if overlay is None or overlay is not self._overlay or not self._written:
                return
            if self._stamped is not None and confirmed.uptime - self._stamped.uptime < STAMP_EVERY:
                return
            if await self._attempt(self._write, self.stamp, stamp_bytes(self._written, confirmed)):
                self._stamped = confirmed

    async def forget(self) -> str:
        """Remove what is kept: an empty text, or why it could not be removed."""
        async with self._turn:
            self._written, self._overlay, self._stamped = "", None, None
            return "" if await self._attempt(self._remove) else self._complaint

    def remove(self) -> list[Path]:
        """Remove the files at once; those that were there. Raises OSError."""
        there = [file for file in (self.state, self.stamp) if file.exists()]
        self._remove()
        return there

    async def _attempt(self, step: Callable[..., None], *arguments: object) -> bool:
        try:
            await asyncio.to_thread(step, *arguments)
        except OSError as error:
            complaint = f"last state in {self._directory}: {error.strerror or error}"
            if complaint != self._complaint:
                log.warning("%s", complaint)
            self._complaint = complaint
            return False
        return True

    def _keep(self, state: bytes, confirmed: Moment) -> None:
        # A crash in between leaves a confirmation of another state, which confirms nothing.
        if _read(self.state) != state:
            self._write(self.state, state)
        self._write(self.stamp, stamp_bytes(digest(state), confirmed))

    def _write(self, file: Path, content: bytes) -> None:
        """Replace a file as a whole, and make it last (rename(2), fsync(2): the directory needs one of its own)."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = _unfinished(file)
        with contextlib.suppress(FileNotFoundError):
            unfinished.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
        self._settle()

    def _remove(self) -> None:
        files = (self.state, self.stamp)
        there = [file for file in (*files, *map(_unfinished, files)) if file.exists()]
        for file in there:
            file.unlink()
        if there:
            self._settle()

    def _settle(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _unfinished(file: Path) -> Path:
    """Where the content is until it is whole."""
    return file.with_name(f".{file.name}.new")


def _read(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES)
    except FileNotFoundError:
        return None
