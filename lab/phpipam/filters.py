"""The query parameters ``filter_by``, ``filter_value`` and ``filter_match`` of lists."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from lab.phpipam.call import Call, Refusal, Unrecorded
from lab.phpipam.columns import Row


def requested(call: Call) -> bool:
    return "filter_by" in call.params


def reject(call: Call) -> None:
    if requested(call):
        raise Unrecorded("a filter on this list")


def apply_filter(rows: Sequence[Row], call: Call) -> list[Row]:
    """The matching ``rows``, whose addresses are not converted yet. Raises Refusal if none match."""
    if not requested(call):
        return list(rows)
    field, value, kind = call.text("filter_by"), call.text("filter_value"), call.text("filter_match") or "full"
    if field not in rows[0]:
        raise Refusal(400, "Invalid filter_by")
    if value is None:
        raise Refusal(400, "Missing filter_value")
    if value == "":
        raise Refusal(400, "Empty filter_value")
    matches = _matcher(kind, value)
    found = [row for row in rows if matches(row[field])]
    if not found:
        raise Refusal(404, "No results (filter applied)")
    return found


def _matcher(kind: str, value: str) -> Callable[[Any], bool]:
    match kind:
        case "full":
            return lambda cell: cell is not None and _text(cell) == value
        case "partial":
            return lambda cell: _contains("" if cell is None else _text(cell), value)
        case "regex":
            pattern = _pattern(value)
            return lambda cell: pattern.search("" if cell is None else _text(cell)) is not None
    raise Refusal(400, "Invalid filter_match")


def _text(cell: Any) -> str:
    if isinstance(cell, dict | list):
        raise Unrecorded("a filter by a column that is not text")
    return str(cell)


def _contains(text: str, part: str) -> bool:
    if part not in text and part.lower() in text.lower():
        raise Unrecorded("a partial match that depends on case")
    return part in text


def _pattern(value: str) -> re.Pattern[str]:
    delimited = re.fullmatch(r"([/#~])(.*)\1([a-zA-Z]*)", value, re.DOTALL)
    if delimited is None:
        raise Refusal(400, "Invalid regular expression (err=1)")
    if delimited[3]:
        raise Unrecorded("modifiers of a regular expression")
    try:
        return re.compile(delimited[2])
    except re.error:
        raise Refusal(400, "Invalid regular expression (err=1)") from None
