"""A call as PHP receives it, and its four outcomes: an answer, a refusal, a raw response, or "never recorded"."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=UTF-8"
ABSENT: Any = object()
WRITES = frozenset({"POST", "PATCH", "PUT", "DELETE"})
SEGMENTS = ("app_id", "controller", "id", "id2", "id3", "id4", "id5")
METHODS = WRITES | {"GET", "HEAD", "OPTIONS"}
# The path segments that are not ids; calls are counted by them.
WORDS = frozenset(
    [
        "addresses",
        "admins",
        "all",
        "changelog",
        "cidr",
        "custom_fields",
        "first_free",
        "first_subnet",
        "overlapping",
        "ping",
        "resize",
        "search",
        "search_hostbase",
        "search_hostname",
        "search_linked",
        "search_mac",
        "slaves",
        "slaves_recursive",
        "split",
        "subnets",
        "tags",
        "token",
        "token_expires",
        "truncate",
        "usage",
    ]
)


class Refusal(Exception):
    """An error of the API, sent in its envelope."""

    def __init__(self, code: int, message: str, *, status: int | None = None, success: bool = False) -> None:
        super().__init__(message)
        self.code, self.message, self.success = code, message, success
        self.status = code if status is None else status


class Raw(Exception):
    """A response that does not come from the API: a fatal PHP error or a page of the web server."""

    def __init__(self, status: int, body: str = "", content_type: str = HTML, *, cookie: bool = True) -> None:
        super().__init__(body)
        self.status, self.body, self.content_type, self.cookie = status, body, content_type, cookie


class Unrecorded(Exception):
    """The behaviour of the real server is not known here."""


@dataclass(frozen=True)
class Answer:
    code: int = 200
    data: Any = ABSENT
    message: str | None = None
    id: str | None = None
    location: str | None = None
    fetched: bool = True
    """Whether ``data`` comes from the database, so that the stringify setting turns its numbers into text."""


def bad_gateway() -> Raw:
    return Raw(502, nginx_page("502 Bad Gateway"), "text/html", cookie=False)


def nginx_page(title: str) -> str:
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
    )


@dataclass
class Call:
    method: str
    target: str
    """Path and query as sent, not decoded."""
    headers: Mapping[str, str]
    body: bytes
    https: bool
    source: str
    params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.params = route(self.target)

    @property
    def controller(self) -> str:
        return str(self.params.get("controller", "")).lower()

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip()

    @property
    def key(self) -> str:
        """The kind of call in counters, such as "GET subnets/addresses"."""
        segments = [self.params.get(name) for name in ("id", "id2", "id3", "id4")]
        words = [segment for segment in segments if isinstance(segment, str) and segment in WORDS]
        return f"{self.method} {'/'.join([self.controller, *words])}"

    def text(self, name: str) -> str | None:
        value = self.params.get(name)
        return None if value is None else str(value)

    def merge_body(self) -> None:
        """Add the parameters of the body, which override those of the path. Raises Refusal for invalid JSON."""
        body = self.body.decode("utf-8", "replace")
        if not body.strip() or self.method not in WRITES | {"GET"}:
            return
        if self.content_type == "application/json":
            self.params |= _json_params(body)
        elif self.content_type != "multipart/form-data":
            self.params |= dict(parse_qsl(body, keep_blank_values=True))


def _json_params(body: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        raise Refusal(400, "Invalid JSON: Syntax error") from None
    if isinstance(value, list):
        return {str(index): each for index, each in enumerate(value)}
    if not isinstance(value, dict):
        raise Refusal(400, "Invalid JSON: No error")
    return value


def route(target: str) -> dict[str, Any]:
    """The parameters in a path and a query.

    Only ``/?`` ends the path: without the slash, the question mark and everything after it belong to the last segment.
    Empty segments and ``0`` are dropped; segments are decoded after the split.
    """
    path, slash_mark, query = target.partition("/?")
    params: dict[str, Any] = {}
    if not slash_mark and path.partition("?")[0].endswith("/index.php"):
        path, _, query = path.partition("?")
    if path.endswith("/index.php"):
        return dict(parse_qsl(query, keep_blank_values=True))
    segments = [unquote_plus(segment) for segment in re.sub("/+", "/", path).split("/")][2:]
    kept = [segment for segment in segments if segment not in ("", "0") and not segment.startswith("?")]
    params |= dict(zip(SEGMENTS, kept, strict=False))
    return params | dict(parse_qsl(query, keep_blank_values=True))


def stringify(value: Any) -> Any:
    """``value`` with all numbers as text."""
    if isinstance(value, dict):
        return {key: stringify(each) for key, each in value.items()}
    if isinstance(value, list):
        return [stringify(each) for each in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
