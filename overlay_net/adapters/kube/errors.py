"""Translates HTTP errors into model.errors with verb, path, status and the server's message, but no credentials."""

import json
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Expired,
    NotFound,
    Refused,
    Unavailable,
)
from overlay_net.model.parse import parse_text

_BY_CODE: dict[int, type[ApiError]] = {404: NotFound, 409: Conflict, 410: Expired}
_TRANSIENT = {401, 408, 425, 429}


def parse_error(code: int, what: str, status: JsonObject, retry_after: float | None = None) -> ApiError:
    """Return the error for an HTTP or in-stream ``code``; ``status`` is the metav1.Status in the body, if any."""
    reason, message = parse_text(status.get("reason")), parse_text(status.get("message"))
    text = f"{code} {reason}".rstrip() + (f": {message}" if message else "")
    return _error_of_code(code, reason, text, retry_after).during(what)


def _error_of_code(code: int, reason: str, text: str, retry_after: float | None) -> ApiError:
    if code == 409 and reason == "AlreadyExists":
        return AlreadyExists(text)
    if code in _BY_CODE:
        return _BY_CODE[code](text)
    if code in _TRANSIENT or code >= 500 or code < 400:
        return Unavailable(text, retry_after=retry_after)
    return Refused(text)


def parse_status(body: bytes) -> JsonObject:
    """Parse the metav1.Status in the body of an error; an empty object for HTML, plain text or an empty body."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse Retry-After, given in seconds or as a date (RFC 9110, 10.2.3); None if it is invalid or missing.

    A date is compared with the Date of the same response, as the clock of the server may differ from ours.
    """
    retry_after = headers.get("Retry-After", "")
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        now, then = (parsedate_to_datetime(text) for text in (headers.get("Date", ""), retry_after))
    except ValueError:
        return None
    return max(0.0, (then.replace(tzinfo=UTC) - now.replace(tzinfo=UTC)).total_seconds())
