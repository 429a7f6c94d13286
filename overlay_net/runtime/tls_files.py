"""A TLS context that follows its files: CA and client certificates are rotated while a process runs."""

import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeAlias, TypeVar

from overlay_net.model.errors import ConfigurationError

log = logging.getLogger(__name__)

CHECK_INTERVAL = 10.0
"""Seconds between two checks of the files while nothing fails."""

T = TypeVar("T")
_Stamp: TypeAlias = tuple[tuple[str, int, int, int] | str, ...]


async def _no_load() -> None:
    return


def client_context(ca_file: Path | str | None = None) -> ssl.SSLContext:
    """A context that verifies servers; without ``ca_file`` against the CAs of the system. Raises OSError, SSLError."""
    context = ssl.create_default_context(cafile=ca_file)
    # The default from Python 3.13 on. It refuses certificates without an Authority Key Identifier, which some clusters
    # have, and which kubectl and earlier versions of Python accept.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class TlsFiles:
    """``build`` reads ``files`` and returns a context; it raises OSError, ValueError or ConfigurationError.

    ``load`` is awaited before ``files`` are determined again after a failure or a change.
    """

    def __init__(
        self,
        build: Callable[[], ssl.SSLContext] = client_context,
        files: Callable[[], Iterable[Path]] = tuple,
        load: Callable[[], Awaitable[None]] = _no_load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._build = build
        self._files = files
        self._load = load
        self._clock = clock
        # Before the files are read: a change in between is noticed by the next check.
        self._stamp = self._read_stamp()
        self._context = build()
        self._next_check = clock() + CHECK_INTERVAL
        self._logged = ""

    async def open(self, send: Callable[[ssl.SSLContext], Awaitable[T]]) -> T:
        """Call ``send`` with the current context, and again if TLS fails and the files have changed meanwhile."""
        if self._clock() >= self._next_check:
            await self.reload()
        try:
            return await send(self._context)
        except ssl.SSLError:
            if not await self.reload(failed=True):
                raise
            return await send(self._context)

    async def reload(self, *, failed: bool = False) -> bool:
        """Build the context again if the files have changed. Returns whether it was built.

        ``failed``: the server or this process has rejected a certificate. Unusable files leave the context unchanged.
        """
        self._next_check = self._clock() + CHECK_INTERVAL
        if not failed and self._read_stamp() == self._stamp:
            return False
        try:
            await self._load()
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return False
            self._context = self._build()
        except (OSError, ValueError, ConfigurationError) as error:
            if str(error) != self._logged:
                self._logged = str(error)
                log.warning("cannot read changed certificates; using the previous ones", extra={"error": str(error)})
            return False
        self._stamp = stamp
        self._logged = ""
        log.info("certificates changed; using the new ones")
        return True

    def _read_stamp(self) -> _Stamp:
        return tuple(_read_stamp(path) for path in self._files())


def _read_stamp(path: Path) -> tuple[str, int, int, int] | str:
    """Return what changes when the file is written or replaced, also behind a symlink as in a mounted ConfigMap."""
    try:
        found = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size
