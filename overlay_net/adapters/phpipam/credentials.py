"""User and password, or app code: from a mounted secret that may change at any moment, or from the environment."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from overlay_net.model.errors import ConfigurationError, CredentialsRefused

LOOK_EVERY = 1.0
"""Seconds between two looks at the files. The kubelet swaps a link when a secret changes, which no file notices."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """What is shown to phpIPAM; ``code`` alone, or ``username`` and ``password``."""

    username: str = ""
    password: str = ""
    code: str = ""


class Credentials:
    """``directory`` holds the files ``username`` and ``password``, or ``code``; ``fixed`` is used without one."""

    def __init__(self, directory: Path | None, fixed: Secret, *, code: bool) -> None:
        self._directory = directory
        self._fixed = fixed
        self._names = ("code",) if code else ("username", "password")

    def read(self) -> Secret:
        """The secret as it is now. Raises CredentialsRefused, which names what is missing and never what is there."""
        if self._directory is None:
            found = {name: getattr(self._fixed, name) for name in self._names}
        else:
            found = {name: self._file(self._directory / name) for name in self._names}
        for name, value in found.items():
            if not value:
                raise CredentialsRefused(f"phpIPAM credentials: {name} is empty")
            if not value.isprintable():
                raise CredentialsRefused(f"phpIPAM credentials: {name} has a line break or another control character")
        return Secret(**found)

    def check(self) -> None:
        """Raises ConfigurationError where a directory was named that does not hold the files."""
        try:
            self.read()
        except CredentialsRefused as error:
            raise ConfigurationError(str(error)) from None

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Await ``changed`` after each change of the files, until cancelled."""
        before = self._content()
        while self._directory is not None:
            await asyncio.sleep(LOOK_EVERY)
            now = self._content()
            if now != before:
                before = now
                await changed()

    def _content(self) -> Secret | None:
        try:
            return self.read()
        except CredentialsRefused:
            return None

    @staticmethod
    def _file(path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no text"
            raise CredentialsRefused(f"phpIPAM credentials: {path}: {reason}") from None
