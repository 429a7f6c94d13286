"""phpIPAM credentials (username and password, or app code), from a mounted Secret, which may change, or settings."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from overlay_net.model.errors import ConfigurationError, CredentialsRefused

POLL_SECONDS = 1.0
"""Interval between two reads of the files, which are polled: the kubelet updates a Secret by replacing a symlink."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Credentials: either ``code``, or ``username`` and ``password``."""

    username: str = ""
    password: str = ""
    code: str = ""


class Credentials:
    """``directory`` contains the files ``username`` and ``password``, or ``code``; without it ``fixed`` is used."""

    def __init__(self, directory: Path | None, fixed: Secret, *, code: bool) -> None:
        self._directory = directory
        self._fixed = fixed
        self._names = ("code",) if code else ("username", "password")

    def read(self) -> Secret:
        """Return the current secret. Raises CredentialsRefused with the name of the field, but never its value."""
        if self._directory is None:
            values = {name: getattr(self._fixed, name) for name in self._names}
        else:
            values = {name: _read_file(self._directory / name) for name in self._names}
        for name, value in values.items():
            if not value:
                raise CredentialsRefused(f"phpIPAM credentials: {name} is empty; set it in the Secret")
            if not value.isprintable():
                raise CredentialsRefused(
                    f"phpIPAM credentials: {name} contains a line break or control character; remove it"
                )
        return Secret(**values)

    def check(self) -> None:
        """Raise ConfigurationError if the credentials are missing or unusable."""
        try:
            self.read()
        except CredentialsRefused as error:
            raise ConfigurationError(str(error)) from None

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Await ``changed`` after each change of the files, until cancelled."""
        last = self._read_or_none()
        while self._directory is not None:
            await asyncio.sleep(POLL_SECONDS)
            current = self._read_or_none()
            if current != last:
                last = current
                await changed()

    def _read_or_none(self) -> Secret | None:
        try:
            return self.read()
        except CredentialsRefused:
            return None


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not valid UTF-8 text"
        raise CredentialsRefused(f"phpIPAM credentials: {path}: {reason}") from None
