"""Writes a tar.gz archive whose members contain no secret; what could not be collected is listed in it."""

import contextlib
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from errno import EEXIST
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from overlay_net.domain.diagnosis.redaction import Redactor
from overlay_net.model.errors import ConfigurationError, OverlayNetError


class Archive:
    """A context manager: the file exists once it ends, and not at all if it fails or is interrupted.

    Only the owner may read the file. Raises ConfigurationError if it exists already or cannot be created, and
    OverlayNetError if it cannot be written.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self._folder = path.name.removesuffix(".tar.gz")
        self._redactor = redactor
        self.members = 0
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        try:
            if self.path.exists():
                raise FileExistsError(EEXIST, os.strerror(EEXIST))
            descriptor, name = tempfile.mkstemp(".partial", f".{self.path.name}.", self.path.parent)
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}") from None
        self._partial = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w:gz")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self.errors:
            self._write("errors.txt", "\n".join(map(self._redactor.text, self.errors)) + "\n")
        with self._translated():
            self._tar.close()
            self._file.close()
            self._partial.rename(self.path)

    def add_object(self, name: str, content: Any) -> None:
        """Add a JSON value."""
        self._write(name, json.dumps(self._redactor.object(content, parse_yaml), indent=1) + "\n")

    def add_text(self, name: str, content: str) -> None:
        self._write(name, self._redactor.text(content))

    def add_error(self, what: str, message: str) -> None:
        self.errors.append(f"{what}: {message}")

    def _write(self, name: str, content: str) -> None:
        data = content.encode(errors="replace")
        member = tarfile.TarInfo(f"{self._folder}/{name}")
        member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
        with self._translated():
            self._tar.addfile(member, io.BytesIO(data))
        self.members += 1

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise OverlayNetError if the file cannot be written, for example on a full disk."""
        try:
            yield
        except OSError as error:
            raise OverlayNetError(f"{self.path}: {error.strerror}") from None


def parse_yaml(text: str) -> Any:
    """Return a mapping or list in a text in JSON or YAML; None if it is another text. All scalars of YAML are texts."""
    with contextlib.suppress(ValueError):
        # Much faster than the parser of YAML.
        return json.loads(text) if text.startswith(("{", "[")) else _load(text)
    return _load(text)


def _load(text: str) -> Any:
    try:
        # Other loaders make dates and keys that are no JSON.
        found = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        return None
    return found if isinstance(found, dict | list) else None
