"""Decodes the JSON of NodeOverlayIps and parses each route as soon as it is decoded.

10,000 routes take 2 MB, and their JSON objects would take another 6 MB, so these never exist all at once.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from overlay_net.model.route_spec import RouteParser


def decode_overlays(text: str) -> Any:
    """Decode the JSON value of a NodeOverlayIp, a list of them, or a watch event of one.

    The result is that of ``json.loads``, except that ``spec.routes`` is a tuple of DesiredRoutes. Raises ValueError.
    """
    parser = RouteParser()

    def routes(cursor: _Cursor) -> Any:
        if not cursor.take("["):
            return cursor.value()
        return parser.parse_all(cursor.value() for _ in cursor.elements("]"))

    def spec(cursor: _Cursor) -> Any:
        return _read_object(cursor, {"routes": routes})

    def overlay(cursor: _Cursor) -> Any:
        return _read_object(cursor, {"spec": spec})

    def items(cursor: _Cursor) -> Any:
        return [overlay(cursor) for _ in cursor.elements("]")] if cursor.take("[") else cursor.value()

    cursor = _Cursor(text)
    value = _read_object(cursor, {"spec": spec, "object": overlay, "items": items})
    cursor.end()
    return value


class _Cursor:
    """A position in JSON text; values are decoded by the standard library."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._index = 0

    def value(self) -> Any:
        self._skip_whitespace()
        value, self._index = _scan(self._text, self._index)
        return value

    def key(self) -> str:
        """Read the key of a member and the colon after it."""
        self._skip_whitespace()
        if not self._text.startswith('"', self._index):
            raise json.JSONDecodeError("Expecting a property name", self._text, self._index)
        key: str = self.value()
        self.expect(":")
        return key

    def take(self, token: str) -> bool:
        """Skip a one-character token if it is next; return whether it was."""
        self._skip_whitespace()
        found = self._text.startswith(token, self._index)
        self._index += found
        return found

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise json.JSONDecodeError(f"Expecting {token!r}", self._text, self._index)

    def elements(self, closing: str) -> Iterator[None]:
        """Yield before each element of an array or object; the caller must read the element."""
        if self.take(closing):
            return
        while True:
            yield
            if self.take(closing):
                return
            self.expect(",")

    def end(self) -> None:
        self._skip_whitespace()
        if self._index != len(self._text):
            raise json.JSONDecodeError("Extra data", self._text, self._index)

    def _skip_whitespace(self) -> None:
        self._index = _whitespace(self._text, self._index).end()  # type: ignore[union-attr]


_scan = json.JSONDecoder().raw_decode
_whitespace = re.compile(r"[ \t\n\r]*").match

_Reader: TypeAlias = Callable[[_Cursor], Any]


def _read_object(cursor: _Cursor, members: Mapping[str, _Reader]) -> Any:
    """Read the next value. If it is an object, ``members`` has readers by key; the standard library reads the rest."""
    if not cursor.take("{"):
        return cursor.value()
    found = {}
    for _ in cursor.elements("}"):
        key = cursor.key()
        found[key] = members[key](cursor) if key in members else cursor.value()
    return found
