"""The differences between a response and a recorded one: keys, their order, types, and values that do not vary."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TRIMMED = re.compile(r"\.\.\. (\d+) more trimmed by the recorder")
DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
SECONDS = re.compile(r"after [\d.]+ seconds")
# Keys that hold an id, by the table it belongs to.
REFERENCES = {
    "subnetId": "subnets",
    "masterSubnetId": "subnets",
    "sectionId": "sections",
    "gatewayId": "addresses",
}


@dataclass
class Translation:
    """From the recorded server to another one: ids of rows, learned from the responses to creations, and app names."""

    known: dict[tuple[str, int], int] = field(default_factory=dict)
    apps: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    """Prefixes of keys that are neither sent nor compared."""
    own_only: bool = False
    """Whether writes to rows that no recording created are refused."""
    writing: bool = False

    def learn(self, recorded: dict[str, Any], actual: dict[str, Any]) -> None:
        """Learn ids from two responses (headers, body) to the same creation."""
        here, there = (each["headers"].get("Location", "").split("/") for each in (recorded, actual))
        if len(here) > 4 and len(there) > 4 and here[4].isdigit() and there[4].isdigit():
            self.known[here[3], int(here[4])] = int(there[4])

    def translate_id(self, table: str, recorded: Any) -> Any:
        """The id on the other server, in the type of the recorded one."""
        if not str(recorded).isdigit():
            return recorded
        if self.writing and self.own_only and (table, int(recorded)) not in self.known:
            raise LookupError(f"a write to {table} {recorded}, which no recording created")
        return type(recorded)(self.known.get((table, int(recorded)), int(recorded)))

    def translate_request(self, method: str, path: str, body: Any) -> tuple[str, Any]:
        """Path and body with the ids of the server. Raises LookupError for a request that must not be sent."""
        self.writing = method not in ("GET", "HEAD", "OPTIONS")
        try:
            return self.translate_path(path), self._translate_body(path, body)
        finally:
            self.writing = False

    def translate_path(self, path: str) -> str:
        """The path with the ids of the server."""
        head, mark, query = path.partition("?")
        parts = head.split("/")
        if len(parts) > 2:
            parts[2] = self.apps.get(parts[2], parts[2])
        if len(parts) > 4:
            table = parts[3].lower()
            if table == "subnets":
                parts[4] = self.translate_id("subnets", parts[4])
            elif table == "sections":
                parts[4] = self.translate_id("sections", parts[4])
            elif table == "addresses":
                parts[4] = self.translate_id("addresses", parts[4])
                # The id of a subnet follows an ip and first_free.
                if len(parts) > 5 and parts[4] != "tags":
                    parts[5] = self.translate_id("subnets", parts[5])
        query = re.sub(r"(?<=subnetId=)\d+", lambda match: str(self.translate_id("subnets", match[0])), query)
        query = re.sub(
            r"(?<=filter_by=subnetId&filter_value=)\d+", lambda m: str(self.translate_id("subnets", m[0])), query
        )
        return "/".join(parts) + mark + query

    def _translate_body(self, path: str, body: Any) -> Any:
        # An id in the body belongs to the table that the path names.
        body = self.translate_row(body)
        if isinstance(body, dict) and "id" in body:
            body["id"] = self.translate_id(path.split("/")[3], body["id"])
        return body

    def translate_row(self, value: Any) -> Any:
        """A recorded response with the ids of the server."""
        if isinstance(value, list):
            return [self.translate_row(each) for each in value]
        if not isinstance(value, dict):
            return value
        row = {key: self.translate_row(each) for key, each in value.items() if not self._ignores(key)}
        own = find_table(value)
        references = REFERENCES if own is None else REFERENCES | {"id": own}
        for key in references.keys() & row.keys():
            row[key] = self.translate_id(references[key], row[key])
        return row

    def without_ignored(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.without_ignored(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {key: self.without_ignored(each) for key, each in value.items() if not self._ignores(key)}

    def _ignores(self, key: str) -> bool:
        return key.startswith(self.ignored)


def find_table(row: dict[str, Any]) -> str | None:
    if "subnetId" in row or row.keys() == {"ip_addr", "id"}:
        return "addresses"
    if "masterSubnetId" in row:
        return "subnets"
    return "sections" if "strictMode" in row else None


def differences(recorded: dict[str, Any], actual: dict[str, Any], there: Translation, unordered: bool) -> list[str]:
    """``actual``: status, headers and body like a recorded response, and ``https``."""
    found = [] if recorded["status"] == actual["status"] else [f"status {actual['status']}"]
    found += _headers(recorded["headers"], actual, there)
    expected, body = recorded["body"], actual["body"]
    if not isinstance(expected, dict):
        same = str(expected or "").replace("\r\n", "\n") == str(body).replace("\r\n", "\n")
        return found if same else [*found, f"body {body!r}"]
    try:
        envelope = there.without_ignored(json.loads(body))
    except ValueError:
        return [*found, f"body {body!r}"]
    expected = there.translate_row(expected)
    if unordered:
        envelope["data"].sort(key=lambda row: _place(row, expected["data"]))
    for key in ("id",) if "id" in expected else ():
        if type(envelope.get(key)) is not type(expected[key]):
            found.append(f"{key}: {envelope.get(key)!r}")
        envelope[key] = expected[key]
    return [*found, *_compare(expected, envelope, "")]


def _headers(recorded: dict[str, str], answer: dict[str, Any], there: Translation) -> Iterator[str]:
    actual = answer["headers"]
    if recorded.get("Content-Type", "").lower() != actual.get("Content-Type", "").lower():
        yield f"Content-Type {actual.get('Content-Type')}"
    if ("Set-Cookie" in recorded) != ("Set-Cookie" in actual):
        yield f"Set-Cookie {actual.get('Set-Cookie')}"
    elif "Set-Cookie" in actual and ("Secure" in actual["Set-Cookie"]) != answer["https"]:
        yield f"Set-Cookie {actual['Set-Cookie']}"
    location = recorded.get("Location")
    if actual.get("Location") != (None if location is None else there.translate_path(location)):
        yield f"Location {actual.get('Location')}"


def _place(row: dict[str, Any], expected: list[Any]) -> int:
    named = [each["id"] for each in expected if isinstance(each, dict)]
    return named.index(row["id"]) if row["id"] in named else len(named)


def _compare(expected: Any, actual: Any, where: str) -> Iterator[str]:
    key = where.rpartition(".")[2]
    if key == "time":
        if not isinstance(actual, int | float):
            yield f"{where}: {actual!r}"
    elif type(expected) is not type(actual):
        yield f"{where}: {actual!r} is not of type {type(expected).__name__}"
    elif isinstance(expected, dict):
        if list(expected) != list(actual):
            yield f"{where}: keys {list(actual)}"
        for name in expected.keys() & actual.keys():
            yield from _compare(expected[name], actual[name], f"{where}.{name}")
    elif isinstance(expected, list):
        yield from _compare_lists(expected, actual, where)
    elif not _is_same_value(key, expected, actual):
        yield f"{where}: {actual!r} is not {expected!r}"


def _is_same_value(key: str, expected: Any, actual: Any) -> bool:
    """Whether two values of one type are equal; of tokens and dates only the form is compared."""
    if not isinstance(expected, str):
        return bool(expected == actual)
    match key:
        case "token":
            return re.fullmatch(r"[\w-]{24}", actual) is not None
        case "editDate" | "expires":
            return DATE.fullmatch(actual) is not None
        case "message":
            return SECONDS.sub("after S", expected) == SECONDS.sub("after S", actual)
    return bool(expected == actual)


def _compare_lists(expected: list[Any], actual: list[Any], where: str) -> Iterator[str]:
    trimmed = TRIMMED.fullmatch(expected[-1]) if expected and isinstance(expected[-1], str) else None
    shown, length = (expected[:-1], len(expected) - 1 + int(trimmed[1])) if trimmed else (expected, len(expected))
    if len(actual) != length:
        yield f"{where}: {len(actual)} elements, not {length}"
    for index, (each, other) in enumerate(zip(shown, actual, strict=False)):
        yield from _compare(each, other, f"{where}[{index}]")
