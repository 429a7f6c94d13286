"""What an answer of phpIPAM means: its data, or one of the errors of model.errors.

An answer is judged by HTTP status, by whether it is JSON, and by ``success`` and ``code`` in it: failures come with
status 200, successes of nothing with ``success`` true, and a dead backend answers in HTML or not at all. Versions up to
1.4 say "not found" with status 200.
"""

import json
from typing import Any

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
"""How long a locked-out source address stays so; whoever calls meanwhile is refused, with valid tokens too."""

_SECURITY = "choose 'SSL with User token' (auth: token) or 'SSL with App code token' (auth: code)"
_APP = {
    "Invalid application id": "set app_id to the App id of an API app",
    "SSL connection is required for API": "the app demands https, or 'none' is not allowed on the server",
    "Application disabled": "the app is disabled",
    # An app with encrypted requests says so of every request that is not (recording 654).
    "Invalid enc_request": f"the app's security is 'crypt', which is not spoken here: {_SECURITY}",
    "Invalid app security": f"the app's security is one that phpIPAM does not know any more: {_SECURITY}",
}
_NONE_IN_LIST = (
    "No addresses found",
    "No results (filter applied)",
    "No slaves",
    "Hostname not found",
    "Address not found",
)


class AnswerLost(Unavailable):
    """The request may have been carried out: look before doing it again."""


class TokenRefused(ApiError):
    """The token is missing, unknown or expired: log in again."""


class NothingFound(NotFound):
    """An empty list, which phpIPAM reports as an error; the thing that was asked about exists."""


def data_of(status: int, body: bytes, what: str) -> dict[str, Any]:
    """The envelope of a successful answer: ``data``, ``id``, ``message``, as far as they are set.

    Raises Exhausted, NotFound, Conflict, Refused, Unavailable, AnswerLost, CredentialsRefused, TokenRefused.
    """
    try:
        envelope = json.loads(body)
    except ValueError:
        envelope = None
    if not isinstance(envelope, dict) or "success" not in envelope:
        raise AnswerLost(f"{what}: {status} without an answer of phpIPAM")
    code = envelope.get("code")
    code = code if isinstance(code, int) else status
    # "Method not implemented" comes with success.
    if envelope["success"] is True and 200 <= code < 300 and 200 <= status < 300:
        return envelope
    message = envelope.get("message")
    raise _error(code, message if isinstance(message, str) else "", what)


def _error(code: int, message: str, what: str) -> OverlayNetError:
    text = f"{what}: {code} {message}".rstrip()
    if message.startswith("Your IP has been blocked"):
        return Unavailable(f"{text} (nothing is asked until that is over)", retry_after=BLOCKED_SECONDS)
    if message in _APP:
        return CredentialsRefused(f"{text}: {_APP[message]}")
    if message.startswith("No free addresses found"):
        return Exhausted(text)
    if message.startswith(_NONE_IN_LIST):
        return NothingFound(text)
    if "1062 Duplicate entry" in message:
        return Conflict(text)
    if message.startswith(("Invalid subnet Id", "Invalid subnet identifier")):
        return NotFound(text)
    if " is not a valid address for subnet " in message or "SQLSTATE[22" in message or "SQLSTATE[01" in message:
        return Refused(text)
    return _by_code(code, message, text)


def _by_code(code: int, message: str, text: str) -> OverlayNetError:
    match code:
        case 401 if message == "invalid permissions":
            return Refused(f"{text}: the app may only read, give it the permission to write")
        case 401 | 403:
            return TokenRefused(text)
        # Up to 1.4 what is not there is told with status 200.
        case 404 | 200:
            return NotFound(text)
        case 409:
            return Conflict(text)
        case _ if 400 <= code < 500 or code == 501:
            return Refused(text)
        case 503:
            return Unavailable(text)
        case _:
            # Also a write lock that was waited for in vain: status 200, code 500.
            return AnswerLost(text)
