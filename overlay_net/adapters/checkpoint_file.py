"""Stores the checkpoint of a node in a host directory; after a power failure it is either the old or the new one.

domain.kernel.checkpoint defines the file format, and decides whether a checkpoint is still valid. Every call may block
for as long as the disk does not answer.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from overlay_net.domain.kernel.checkpoint import CheckpointContent, Moment, checkpoint_digest, encode_confirmation
from overlay_net.model.names import label_value

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
    """The files of one node in ``directory``. Every method raises OSError."""

    def __init__(self, directory: Path, node: str) -> None:
        name = label_value(node)
        self.directory = directory
        self.state = directory / f"{name}.state"
        self.stamp = directory / f"{name}.confirmed"

    def read(self) -> CheckpointContent:
        return CheckpointContent(_read(self.state), _read(self.stamp))

    def write(self, state: bytes, confirmed: Moment) -> None:
        """Replace the checkpoint."""
        # After a crash between the two, the confirmation is of another state and therefore invalid.
        self._replace({self.state: state, self.stamp: encode_confirmation(checkpoint_digest(state), confirmed)})

    def confirm(self, digest: str, confirmed: Moment) -> None:
        """Replace the confirmation by one of the state with this digest."""
        self._replace({self.stamp: encode_confirmation(digest, confirmed)})

    def delete(self) -> list[Path]:
        """Delete the checkpoint. Returns the files that existed."""
        files = (self.state, self.stamp)
        existing = [file for file in (*files, *map(_temporary, files)) if file.exists()]
        for file in existing:
            file.unlink()
        if existing:
            self._sync_directory()
        return [file for file in existing if file in files]

    def _replace(self, files: Mapping[Path, bytes]) -> None:
        """Replace each file atomically, all durably (rename(2), fsync(2): the directory needs one of its own)."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, content in files.items():
            _write_temporary(_temporary(file), content)
        for file in files:
            _temporary(file).replace(file)
        self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _temporary(file: Path) -> Path:
    """The temporary file that is renamed to ``file`` once it is complete."""
    return file.with_name(f".{file.name}.new")


def _write_temporary(file: Path, content: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _read(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES)
    except FileNotFoundError:
        return None
