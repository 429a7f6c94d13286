"""Stores the checkpoint of a node in a host directory; after a power failure it is either the old or the new one.

domain.kernel.checkpoint defines the file format, and decides whether a checkpoint is still valid.
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
"""Minimum number of seconds between two writes of a confirmation of the same state."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MAX_BYTES: Final = 64 * 2**20


def current_moment() -> Moment:
    """Return the current time on both clocks."""
    return Moment(datetime.now(UTC), read_boot_id(BOOT_ID), time.clock_gettime(time.CLOCK_BOOTTIME))


def read_boot_id(file: Path) -> str:
    """Return the boot id; empty if it is unknown."""
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


class CheckpointFile:
    """The files of one node in ``directory``. A failed write is logged, never raised."""

    def __init__(self, directory: Path, node: str) -> None:
        name = label_value(node)
        self._directory = directory
        self._node = node
        self.state = directory / f"{name}.state"
        self.stamp = directory / f"{name}.confirmed"
        self._written = ""
        """Digest of the state that this process has certainly written; empty if there is none."""
        self._overlay: NodeOverlay | None = None
        self._route_probes: tuple[RouteProbe, ...] = ()
        self._stamped: Moment | None = None
        self._logged_error = ""
        # Serialises the writes, which run in threads because a disk may be slow.
        self._lock = asyncio.Lock()

    def load(self) -> Checkpoint | Unusable:
        """Read the checkpoint of an earlier run."""
        try:
            return decode_checkpoint(_read(self.state), _read(self.stamp), self._node)
        except OSError as error:
            return Unusable("Unreadable", f"cannot read {self.state}: {error.strerror}")

    async def save(self, overlay: NodeOverlay, confirmed: Moment, route_probes: tuple[RouteProbe, ...] = ()) -> None:
        """Save the desired state before it is applied. Does nothing if the state is unchanged."""
        async with self._lock:
            if is_same_checkpoint(overlay, self._overlay) and route_probes == self._route_probes:
                self._overlay = overlay
                return
            # In a thread, because 10,000 routes take 0.1 s.
            content = await asyncio.to_thread(encode_checkpoint, overlay, route_probes)
            written = checkpoint_digest(content)
            if written != self._written:
                self._written = ""
                if not await self._attempt(self._write_both, content, confirmed):
                    # An outdated state is worse than none: it may contain an address that this node must release.
                    await self._attempt(self._delete)
                    return
                self._written, self._stamped, self._logged_error = written, confirmed, ""
            self._overlay, self._route_probes = overlay, route_probes

    async def confirm(self, overlay: NodeOverlay | None, confirmed: Moment) -> None:
        """Record that the API server still has ``overlay``, if that is the saved state; at most once a minute."""
        async with self._lock:
            if overlay is None or overlay is not self._overlay or not self._written:
                return
            if self._stamped is not None and confirmed.uptime - self._stamped.uptime < CONFIRM_INTERVAL:
                return
            if await self._attempt(self._write, self.stamp, encode_confirmation(self._written, confirmed)):
                self._stamped = confirmed

    async def delete(self) -> str:
        """Delete the checkpoint. Returns the error, or an empty string."""
        async with self._lock:
            self._written, self._overlay, self._stamped = "", None, None
            if await self._attempt(self._delete):
                return ""
            return f"cannot delete the checkpoint in {self._directory}: {self._logged_error}"

    def delete_files(self) -> list[Path]:
        """Delete the files synchronously. Returns the files that existed. Raises OSError."""
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
        # After a crash between the writes, the confirmation is of another state and therefore invalid.
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
    """Null object for an unset state_dir: stores nothing."""

    def load(self) -> Checkpoint | Unusable:
        return Unusable("Off", "no state_dir is set")

    async def save(self, overlay: NodeOverlay, confirmed: Moment, route_probes: tuple[RouteProbe, ...] = ()) -> None:
        return

    async def confirm(self, overlay: NodeOverlay | None, confirmed: Moment) -> None:
        return

    async def delete(self) -> str:
        return ""


def _temporary(file: Path) -> Path:
    """The temporary file that is renamed to ``file`` once it is complete."""
    return file.with_name(f".{file.name}.new")


def _read(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES)
    except FileNotFoundError:
        return None
