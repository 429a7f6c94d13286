"""Durations in settings and on the command line."""

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")


def parse_duration(value: object) -> object:
    """Parse a Go duration such as ``90s``, ``1h30m`` or ``250ms``; a plain number is in seconds."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h|d)", value))
    if isinstance(value, timedelta) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    try:
        return float(str(value))
    except ValueError:
        raise ValueError("must be a duration such as 30s, 10m or 1h30m") from None
