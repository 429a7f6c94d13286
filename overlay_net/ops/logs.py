"""Logs on standard error, one line per record: as text for people, or as JSON for log collectors."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Final, Literal

from overlay_net.ops.log_writer import BackgroundHandler

STANDARD_ERROR: Final = 2

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields that the caller passed as ``extra``."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _quote(value: object) -> str:
    """Quote a value as in logfmt: if it is empty or has spaces, quotes or equals signs."""
    text = str(value)
    return text if re.fullmatch(r'[^\s"=]+', text) else json.dumps(text, ensure_ascii=False)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={_quote(value)}" for key, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str, style: Literal["text", "json"]) -> None:
    """Log to standard error: messages of this product at ``level`` or above, warnings and errors of libraries."""
    handler = BackgroundHandler(STANDARD_ERROR)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("overlay_net").setLevel(level.upper())
