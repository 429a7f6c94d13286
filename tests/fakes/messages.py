"""What no message of a condition may contain, because it differs between attempts that fail for the same cause."""

import re
from typing import Any

FORBIDDEN = {
    "a request of one call": re.compile(
        r"\b(?:GET|POST|PUT|PATCH|DELETE) \S|\b(?:get|list|watch|create|apply|update|patch|delete) /|/apis?/"
    ),
    "a point in time": re.compile(r"\d{4}-\d{2}-\d{2}|(?<![0-9a-fA-F:])\d{2}:\d{2}:\d{2}(?![0-9a-fA-F:])"),
    "the id of a Python object": re.compile(r"\b0x[0-9a-f]{6,}"),
    # The ID of another cluster names the owner of a record; it does not differ between attempts.
    "a UUID": re.compile(r"(?<!of cluster )\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "a counter of attempts": re.compile(r"\battempt \d|\bresourceVersion\b"),
}


def find_unstable(message: str) -> str:
    """Return what the message must not contain, or an empty string."""
    return next((what for what, pattern in FORBIDDEN.items() if pattern.search(message)), "")


def check_conditions(raw: dict[str, Any]) -> None:
    """Fail for a condition in the status of an object whose message is not stable while its cause is."""
    for condition in (raw.get("status") or {}).get("conditions") or ():
        unstable = find_unstable(condition.get("message", ""))
        assert not unstable, f"{condition['type']}/{condition['reason']} has {unstable}: {condition['message']!r}"
