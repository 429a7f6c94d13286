"""Parses a response of phpIPAM into the envelope of a success or an error of model.errors.

A success requires a 2xx HTTP status and a JSON body with ``success`` true and a 2xx ``code``: phpIPAM reports some
failures with status 200 and unimplemented methods with ``success`` true, and a failed backend returns HTML or nothing.
Versions up to 1.4 report "not found" with status 200.
"""

import json
import re
from http import HTTPStatus
from typing import Any

from overlay_net.adapters.phpipam.database_errors import DatabaseError, find_database_error
from overlay_net.model.errors import (
    ApiError,
    Conflict,
    CredentialsRefused,
    Exhausted,
    NotFound,
    OverlayNetError,
    Refused,
    Unavailable,
)

BLOCKED_SECONDS = 300.0
"""How long phpIPAM blocks a source address after failed logins; valid tokens from there are rejected as well."""

RECHECK_SECONDS = 120.0
"""Delay between two attempts with an app, a user or a URL that phpIPAM rejects without counting a failed login."""

_SECURITY = "set it to 'SSL with User token' (auth: token) or 'SSL with App code token' (auth: code)"
_APP_ERRORS = {
    "Invalid application id": "set app_id to the App id of an API app",
    "SSL connection is required for API": "use an https URL; security 'none' needs api_allow_unsafe on the server",
    "Application disabled": "the API app is disabled; enable it in phpIPAM",
    # The response of an app with encrypted requests to any other request (recording 654).
    "Invalid enc_request": f"the API app has the security 'Encrypted' (crypt), which is not supported; {_SECURITY}",
    "Invalid app security": f"the API app has a security that phpIPAM no longer supports; {_SECURITY}",
}
_READ_ONLY = "invalid permissions"
_LOCK_SECONDS = re.compile(r" after [\d.]+ seconds")
_LOCK_TIMEOUT = ("Cannot obtain lock", "MySQL wait timeout exceeded")
"""The write lock of the whole server could not be obtained (HTTP status 200, code 500)."""
_EMPTY_LIST = (
    "No addresses found",
    "No results (filter applied)",
    "No slaves",
    "Hostname not found",
    "Address not found",
)


class ResponseLost(Unavailable):
    """The request may have been processed: check before repeating it."""


class RequestFailed(ResponseLost):
    """phpIPAM received this request and failed to process it, or to answer in time; it may process others."""


class TokenRefused(ApiError):
    """The token is missing, unknown or expired: log in again."""


class AddressRefused(Refused):
    """The address is not one of the subnet that can be given to a host."""


class NothingFound(NotFound):
    """An empty list, which phpIPAM reports as an error; the object that contains the list exists."""


def parse_response(status: int, body: bytes, request: str, subnet: int = 0) -> dict[str, Any]:
    """Return the envelope of a success, with ``data``, ``id`` and ``message`` if they are set.

    ``request`` names the request in errors, ``subnet`` is the only subnet that it concerns, or 0. Raises Exhausted,
    NotFound, Conflict, Refused, Unavailable, ResponseLost, CredentialsRefused, TokenRefused. The message of an outage
    is the same for all requests that it concerns.
    """
    try:
        envelope = json.loads(body)
    except ValueError:
        envelope = None
    if not isinstance(envelope, dict) or "success" not in envelope:
        text = f"{status} without a response of the phpIPAM API"
        # A status of 502 to 504 is that of a proxy in front of phpIPAM.
        failed = status == HTTPStatus.INTERNAL_SERVER_ERROR
        raise (request_failed(text, subnet) if failed else ResponseLost(f"phpIPAM: {text}")).during(request)
    code = envelope.get("code")
    code = code if isinstance(code, int) else status
    # "Method not implemented" has success true.
    if envelope["success"] is True and 200 <= code < 300 and 200 <= status < 300:
        return envelope
    message = envelope.get("message")
    message = message if isinstance(message, str) else ""
    text = f"{code} {_LOCK_SECONDS.sub('', message)}".rstrip()
    error = (
        _error_of_server(code, message, f"phpIPAM: {text}")
        or _error_of_request(code, message, f"{code} {message}".rstrip())
        or request_failed(text, subnet)
    )
    raise error.during(request)


def request_failed(text: str, subnet: int) -> RequestFailed:
    return RequestFailed(f"phpIPAM subnet {subnet}: {text}" if subnet else f"phpIPAM: {text}")


def _error_of_server(code: int, message: str, text: str) -> OverlayNetError | None:
    """Return the error of an outage, an app or a token, which concerns all requests."""
    if message.startswith("Your IP has been blocked"):
        return Unavailable(f"{text} (no requests until the block expires)", retry_after=BLOCKED_SECONDS)
    if message == "API server disabled":
        return Unavailable(f"{text}: enable the API in the phpIPAM settings")
    if message in _APP_ERRORS:
        return CredentialsRefused(f"{text}: {_APP_ERRORS[message]}", retry_after=RECHECK_SECONDS)
    if message.startswith(_LOCK_TIMEOUT):
        return ResponseLost(text)
    database_error = find_database_error(message)
    if database_error is not None and database_error.is_outage:
        return ResponseLost(text)
    if code in (401, 403) and message != _READ_ONLY:
        return TokenRefused(text)
    return Unavailable(text) if code == HTTPStatus.SERVICE_UNAVAILABLE else None


def _error_of_request(code: int, message: str, text: str) -> OverlayNetError | None:
    """Return the error of a request that phpIPAM answers; None if it failed to process it."""
    if message == _READ_ONLY:
        return Refused(f"{text}: the API app is read-only; set its permissions to Read / Write")
    if message.startswith("No free addresses found"):
        return Exhausted(text)
    if message.startswith(_EMPTY_LIST):
        return NothingFound(text)
    database_error = find_database_error(message)
    if database_error is not None:
        return _error_of_database(database_error, text)
    if message.startswith(("Invalid subnet Id", "Invalid subnet identifier")):
        return NotFound(text)
    if " is not a valid address for subnet " in message:
        return AddressRefused(text)
    match code:
        # Versions up to 1.4 report a missing object with status 200.
        case 404 | 200:
            return NotFound(text)
        case 409:
            return Conflict(text)
        case _ if 400 <= code < 500 or code == 501:
            return Refused(text)
    return None


def _error_of_database(error: DatabaseError, text: str) -> OverlayNetError | None:
    if error.lost_race:
        return Conflict(text)
    return None if error.is_contention else Refused(text)
