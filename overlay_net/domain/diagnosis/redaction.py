"""Removes secrets from what `overlay-net sysdump` collects: by key, by form, and by the values of the known Secrets.

It rather removes too much: what is left is meant to be sent to other people.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any, Final

from overlay_net.model.api import JsonObject

REDACTED: Final = "<redacted>"
MIN_SECRET: Final = 6
"""Shorter values of Secrets are removed by their keys only: they occur in other words."""

KEYS: Final = frozenset({"password", "passwd", "token", "code", "username", "secret", "apikey", "privatekey"})
SUFFIXES: Final = ("password", "token", "secret", "apikey", "privatekey", "clientkeydata", "tokendata")
DROPPED: Final = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration"})
"""Keys whose values repeat others in another form."""

# A code of one to three digits is a status of HTTP or of a process, and no app code of phpIPAM.
_CODE = r"\bcode(?![\"']?\s*[:=]\s*[\"']?\d{1,3}\b)"
_NAME = rf"password|passwd|token|secret|api[_-]?key|private[_-]?key|username|{_CODE}"
_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", REDACTED),
        # user:password@ of a URL
        (r"://[^/\s@\"']+@", f"://{REDACTED}@"),
        # JSON Web Token
        (r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*", REDACTED),
        (r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", rf"\1 {REDACTED}"),
        # key: value, key=value and "key": "value"
        (rf"({_NAME})([\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&}}\"']+)", rf"\1\2{REDACTED}"),
    )
)


class Redactor:
    """``secrets`` are values that must not occur anywhere, whatever is around them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for each in secrets if len(each) >= MIN_SECRET for form in (each, _encode(each))}
        # The longest first: one may be part of another.
        alternatives = "|".join(re.escape(each) for each in sorted(forms, key=len, reverse=True))
        self._known = re.compile(alternatives) if alternatives else None

    def text(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def object(self, value: Any, parse: Callable[[str], Any] = lambda _: None) -> Any:
        """Return a JSON value without secrets.

        ``parse`` parses a text of several lines, such as a file in a ConfigMap, into JSON; None if it is none.
        """
        if isinstance(value, dict):
            return self._mapping(value, parse)
        if isinstance(value, list):
            return [self.object(each, parse) for each in value]
        if isinstance(value, str):
            parsed = parse(value) if "\n" in value else None
            return self.text(value) if parsed is None else self.object(parsed, parse)
        return value

    def _mapping(self, value: JsonObject, parse: Callable[[str], Any]) -> JsonObject:
        if value.get("kind") == "Secret":
            return {key: each for key, each in value.items() if key not in ("data", "stringData")}
        if isinstance(value.get("name"), str) and is_secret_key(value["name"]) and "value" in value:
            # A variable of the environment.
            return value | {"value": REDACTED}
        return {
            key: REDACTED if is_secret_key(key) and isinstance(each, str) else self.object(each, parse)
            for key, each in value.items()
            if key not in DROPPED
        }


def is_secret_key(key: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    return plain in KEYS or plain.endswith(SUFFIXES)


def _encode(text: str) -> str:
    return b64encode(text.encode()).decode().rstrip("=")
