"""The checkpoint of a node in a directory of the host; a power failure leaves the old content or the new one.

domain.kernel.checkpoint decides what is in the files, and whether it is still used.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    Moment,
    Unusable,
    checkpoint_digest,
    decode_checkpoint,
    encode_checkpoint,
    encode_confirmation,
    is_same_checkpoint,
)
from overlay_net.model.names import label_value
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteProbe

log = logging.getLogger(__name__)

CONFIRM_INTERVAL: Final = 60.0
"""Seconds, at the least, between two confirmations of the same state that are written."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MAX_BYTES: Final = 64 * 2**20


def current_moment() -> Moment:
    """Now, on both clocks."""
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Moment(datetime.now(UTC), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


class CheckpointFile:
    """One node's files in ``directory``. A failure to write is logged and ends nothing."""

    def __init__(self, directory: Path, node: str) -> None:
        name = label_value(node)
        self._directory = directory
        self._node = node
        self.state = directory / f"{name}.state"
        self.stamp = directory / f"{name}.confirmed"
        self._written = ""
        """Digest of the state that this process is certain to have written; empty: none."""
        self._overlay: NodeOverlay | None = None
        self._route_probes: tuple[RouteProbe, ...] = ()
        self._stamped: Moment | None = None
        self._logged_error = ""
        # Files are written in a thread, as a disk may be slow: one at a time.
        self._lock = asyncio.Lock()

    def load(self) -> Checkpoint | Unusable:
        """What an earlier run saved."""
        try:
            return decode_checkpoint(_read(self.state), _read(self.stamp), self._node)
        except OSError as error:
            return Unusable("Unreadable", f"cannot read {self.state}: {error.strerror}")

    async def save(self, overlay: NodeOverlay, confirmed: Moment, route_probes: tuple[RouteProbe, ...] = ()) -> None:
        """Save what the node must have, before it is applied. Costs nothing while that is the same."""
        async with self._lock:
            if is_same_checkpoint(overlay, self._overlay) and route_probes == self._route_probes:
                self._overlay = overlay
                return
            # In a thread: a tenth of a second for ten thousand routes.
            content = await asyncio.to_thread(encode_checkpoint, overlay, route_probes)
            written = checkpoint_digest(content)
            if written != self._written:
                self._written = ""
                if not await self._attempt(self._write_both, content, confirmed):
                    # An older state is worse than none: it may name an address that this node releases now.
                    await self._attempt(self._delete)
                    return
                self._written, self._stamped, self._logged_error = written, confirmed, ""
            self._overlay, self._route_probes = overlay, route_probes

    async def confirm(self, overlay: NodeOverlay | None, confirmed: Moment) -> None:
        """The API server still has ``overlay``; written if that is the saved state, and once a minute at most."""
        async with self._lock:
            if overlay is None or overlay is not self._overlay or not self._written:
                return
            if self._stamped is not None and confirmed.uptime - self._stamped.uptime < CONFIRM_INTERVAL:
                return
            if await self._attempt(self._write, self.stamp, encode_confirmation(self._written, confirmed)):
                self._stamped = confirmed

    async def delete(self) -> str:
        """Delete the checkpoint: an empty text, or why that failed."""
        async with self._lock:
            self._written, self._overlay, self._stamped = "", None, None
            if await self._attempt(self._delete):
                return ""
            return f"cannot delete the checkpoint in {self._directory}: {self._logged_error}"

    def delete_files(self) -> list[Path]:
        """Delete the files at once, and return those that existed. Raises OSError."""
        existing = [file for file in (self.state, self.stamp) if file.exists()]
        self._delete()
        return existing

    async def _attempt(self, step: Callable[..., None], *arguments: object) -> bool:
        """Run a step in a thread; a failure is logged once."""
        try:
            await asyncio.to_thread(step, *arguments)
        except OSError as error:
            text = error.strerror or str(error)
            if text != self._logged_error:
                log.warning("cannot update the checkpoint", extra={"directory": str(self._directory), "error": text})
            self._logged_error = text
            return False
        return True

    def _write_both(self, state: bytes, confirmed: Moment) -> None:
        # A crash in between leaves a confirmation of another state, which confirms nothing.
        if _read(self.state) != state:
            self._write(self.state, state)
        self._write(self.stamp, encode_confirmation(checkpoint_digest(state), confirmed))

    def _write(self, file: Path, content: bytes) -> None:
        """Replace a file atomically and durably (rename(2), fsync(2): the directory needs one of its own)."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = _temporary(file)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
        self._sync_directory()

    def _delete(self) -> None:
        files = (self.state, self.stamp)
        existing = [file for file in (*files, *map(_temporary, files)) if file.exists()]
        for file in existing:
            file.unlink()
        if existing:
            self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class NoCheckpointFile:
    """Stands in for the file where no state_dir is set: nothing is kept, so nothing is found."""

    def load(self) -> Checkpoint | Unusable:
        return Unusable("Off", "no state_dir is set")

    async def save(self, overlay: NodeOverlay, confirmed: Moment, route_probes: tuple[RouteProbe, ...] = ()) -> None:
        return

    async def confirm(self, overlay: NodeOverlay | None, confirmed: Moment) -> None:
        return

    async def delete(self) -> str:
        return ""


def _temporary(file: Path) -> Path:
    """Where the content is until all of it is written."""
    return file.with_name(f".{file.name}.new")


def _read(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES)
    except FileNotFoundError:
        return None
