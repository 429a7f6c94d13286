"""Removes secrets from what `overlay-net sysdump` collects: by key, by form, and by the values of the known Secrets.

It rather removes too much: what is left is meant to be sent to other people.
"""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

from overlay_net.model.api import JsonObject

REDACTED: Final = "<redacted>"
MIN_SECRET: Final = 6
"""Shorter values of Secrets are removed by their keys only: they occur in other words."""

SUFFIXES: Final = (
    *("password", "passwd", "pwd", "pass", "passphrase", "token", "tokendata", "secret", "credentials", "cookie"),
    *("apikey", "accesskey", "privatekey", "secretkey", "keydata", "username", "code"),
)
"""Ends of keys of secrets, without punctuation."""
_STATUS: Final = re.compile(r"\d{1,3}")
"""A code of one to three digits is a status of HTTP or of a process, and no app code of phpIPAM."""
DROPPED: Final = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration"})
"""Keys whose values repeat others in another form."""

_QUOTE = r"\\*[\"']?"
_CODE = rf"\bcode(?!{_QUOTE}\s*[:=]\s*{_QUOTE}\d{{1,3}}\b)"
_PHRASE = r"pass(?:word|wd|phrase)?|pwd|secret|username|credentials"
"""Names of what people choose, which may have several words."""
_WORDS = rf"{_PHRASE}|token|cookie"
_NAME = rf"{_WORDS}|(?:api|access|private|secret)[_-]?key|key[_-]?data|{_CODE}"
_ASSIGNED = rf"{_QUOTE}\s*[:=]\s*"
_QUOTED = "|".join(
    (
        # a block of YAML
        r"[|>][-+\d]*[ \t]*\n(?:[ \t]+[^\n]*(?:\n|\Z))+",
        # a text in JSON that is itself part of a text in JSON
        r"(?P<escape>\\+)(?P<quote>[\"'])[^\n]*?(?<!\\)(?P=escape)(?P=quote)",
        r"b?\"(?:\\.|[^\"\\])*\"",
        r"b?'(?:\\.|''|[^'\\])*'",
    )
)
_WORD = r"[^\s\"']+"
# Up to the next key, which is followed by "=" or ":".
_MORE_WORDS = rf"(?:[ \t]+(?![\w./-]+[=:]){_WORD})*"
_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", REDACTED),
        # "-----BEGIN " in base64
        (r"LS0tLS1CRUdJTi[\w+/=-]*", REDACTED),
        # user:password@ of a URL
        (r"://[^\s\"']*@", f"://{REDACTED}@"),
        # JSON Web Token
        (r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*", REDACTED),
        (r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", rf"\1 {REDACTED}"),
        (rf"(-[\w-]{{0,40}}(?:{_WORDS})[ \t]+)(?![-\s])(?:{_QUOTED}|\S+)", rf"\1{REDACTED}"),
        # several cookies in a header
        (r"(cookie\s*:\s*)[^\n\"']+", rf"\1{REDACTED}"),
        # key: value, key=value and "key": "value"
        (rf"((?:{_PHRASE}){_ASSIGNED})(?:{_QUOTED}|{_WORD}{_MORE_WORDS})", rf"\1{REDACTED}"),
        (rf"((?:{_NAME}){_ASSIGNED})(?:{_QUOTED}|{_WORD})", rf"\1{REDACTED}"),
    )
)


class Redactor:
    """``secrets`` are values that must not occur anywhere, whatever is around them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for each in secrets if len(each) >= MIN_SECRET for form in _forms(each)}
        # The longest first: one may be part of another.
        alternatives = "|".join(re.escape(each) for each in sorted(forms, key=len, reverse=True))
        self._known = re.compile(alternatives) if alternatives else None

    def text(self, text: str) -> str:
        text = self._without_known(text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def _without_known(self, text: str) -> str:
        return text if self._known is None else self._known.sub(REDACTED, text)

    def object(self, value: Any, parse: Callable[[str], Any] = lambda _: None) -> Any:
        """Return a JSON value without secrets.

        ``parse`` parses a text in JSON or of several lines, such as a file in a ConfigMap, into a JSON value; None if
        it is another text.
        """
        if isinstance(value, dict):
            return self._mapping(value, parse)
        if isinstance(value, list):
            # The value of an argument may be the next one.
            return [self._value(_find_option(key), each, parse) for key, each in zip(["", *value], value, strict=False)]
        if isinstance(value, str):
            parsed = parse(value) if "\n" in value or value.startswith(("{", "[")) else None
            return self.text(value) if parsed is None else self.object(parsed, parse)
        return value

    def _mapping(self, value: JsonObject, parse: Callable[[str], Any]) -> JsonObject:
        if value.get("kind") == "Secret":
            value = {key: each for key, each in value.items() if key not in ("data", "stringData")}
        if isinstance(value.get("name"), str) and is_secret_key(value["name"]) and "value" in value:
            # A variable of the environment.
            value = value | {"value": REDACTED}
        return {
            self._without_known(key): self._value(key, each, parse) for key, each in value.items() if key not in DROPPED
        }

    def _value(self, key: str, value: Any, parse: Callable[[str], Any]) -> Any:
        if not is_secret_key(key):
            return self.object(value, parse)
        if isinstance(value, list):
            return [self._value(key, each, parse) for each in value]
        if isinstance(value, bool) or not isinstance(value, str | int):
            return self.object(value, parse)
        is_status = key.lower().endswith("code") and _STATUS.fullmatch(str(value))
        return value if is_status else REDACTED


def is_secret_key(key: str) -> bool:
    return re.sub(r"[^a-z0-9]", "", key.lower()).endswith(SUFFIXES)


def _find_option(argument: object) -> str:
    return argument if isinstance(argument, str) and argument.startswith("-") else ""


def _forms(text: str) -> Iterator[str]:
    """Yield the text as programs write it: as it is, in base64, in a URL, and within a text in JSON."""
    yield text
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(text.encode()).decode().rstrip("=")
    yield from (quote(text), quote(text, safe=""), quote_plus(text))
    yield from (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
