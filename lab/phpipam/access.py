"""Who may call: the app, the way the call came, tokens and codes, the lock-out, and the user controller."""

import base64
import binascii
import string
from datetime import UTC, datetime

from lab.phpipam.state import BLOCK_SECONDS, TOLERATED_FAILURES, App, PhpIpam, User
from lab.phpipam.wire import WRITES, Answer, Call, Refusal, Unrecorded

TOKEN_SECONDS, REFRESH_SECONDS = 6 * 3600, 60
TOKEN_LETTERS = string.ascii_letters + string.digits + "_-"
BLOCKED = "Your IP has been blocked for 5 minutes because of excessive login failures"
NO_CREDENTIALS = Refusal(400, "Please provide username and password")


def admitted_app(ipam: PhpIpam, call: Call) -> App:
    """The app of a call that its settings let through."""
    if not ipam.api_enabled:
        raise Refusal(503, "API server disabled")
    app = ipam.apps.get(str(call.params.get("app_id", "")).lower())
    if app is None:
        raise Refusal(400, "Invalid application id")
    if app.permission == 0:
        raise Refusal(503, "Application disabled")
    if app.security == "user":
        raise Refusal(503, "Invalid app security")
    if app.security == "crypt":
        if "enc_request" in call.params:
            raise Unrecorded("encrypted requests")
        raise Refusal(503, "Invalid enc_request")
    safe = ipam.allow_unsafe if app.security == "none" else call.https
    if not safe:
        raise Refusal(503, "SSL connection is required for API")
    return app


def authorise(ipam: PhpIpam, app: App, call: Call) -> None:
    """Lets a call to an ordinary controller through, or raises."""
    refuse_blocked(ipam, call)
    token = given_token(call)
    if app.security == "ssl_code":
        _check_code(ipam, app, token)
    else:
        user = _owner(ipam, token)
        if user is None or user.expires <= ipam.now():
            raise Refusal(401, "Unauthorized")
        _extend(ipam, user)
    if not call.controller:
        if call.method != "OPTIONS":
            raise Refusal(400, "Request is not valid")
    elif call.method in WRITES and app.permission < 2:
        raise Refusal(401, "invalid permissions")


def refuse_blocked(ipam: PhpIpam, call: Call) -> None:
    count, last = ipam.failures.get(call.source, (0, 0.0))
    if count and ipam.now() - last >= BLOCK_SECONDS:
        del ipam.failures[call.source]
        count = 0
    if count > TOLERATED_FAILURES or ipam.faults.blocked:
        raise Refusal(500, BLOCKED)


def given_token(call: Call) -> str:
    return call.headers.get("phpipam-token") or call.headers.get("token") or ""


def _check_code(ipam: PhpIpam, app: App, code: str) -> None:
    if app.code is not None and code == app.code:
        return
    if code and any(other.code == code for other in ipam.apps.values()):
        raise Refusal(403, "Invalid token")
    raise Refusal(401, "Unauthorized")


def _owner(ipam: PhpIpam, token: str) -> User | None:
    # The database compares without regard to case.
    matches = (user for user in ipam.users.values() if user.token and user.token.lower() == token.lower())
    return next(matches, None)


def _extend(ipam: PhpIpam, user: User) -> None:
    until = ipam.now() + TOKEN_SECONDS
    if until - user.expires >= REFRESH_SECONDS:
        user.expires = until


async def user_controller(ipam: PhpIpam, app: App, call: Call) -> Answer:
    refuse_blocked(ipam, call)
    if call.method == "POST":
        return await _login(ipam, call)
    if app.security == "ssl_code":
        return _user_of_code_app(ipam, app, call)
    token = given_token(call)
    if not token:
        raise Refusal(403, "Please provide token")
    user = _owner(ipam, token)
    if user is None:
        raise Refusal(403, "Invalid token")
    if user.expires <= ipam.now():
        raise Refusal(403, "Token expired")
    match call.method, call.text("id"):
        case "GET" | "HEAD", None | "token" | "token_expires":
            return Answer(data={"expires": _expires(user)}, fetched=False)
        case "GET", "all" | "admins":
            if app.permission < 3:
                raise Refusal(503, "Invalid app permissions")
            raise Unrecorded("the rows of the user table are not simulated")
        case "GET", _:
            raise Refusal(400, "Invalid identifier")
        case "PATCH" | "PUT", None:
            _extend(ipam, user)
            return Answer(data={"expires": _expires(user)}, fetched=False)
        case "DELETE", None:
            user.token = None
            return Answer(data=["Token removed"], fetched=False)
    raise Unrecorded("this call of user/")


def _user_of_code_app(ipam: PhpIpam, app: App, call: Call) -> Answer:
    _check_code(ipam, app, given_token(call))
    match call.method, call.text("id"):
        case "GET", _:
            raise Refusal(409, "Authentication not needed")
        case "PATCH", None:
            raise Refusal(500, "Error: Missing primary key")
    raise Unrecorded("this call of user/ on an app with a code")


async def _login(ipam: PhpIpam, call: Call) -> Answer:
    name, password = _credentials(call)
    user = ipam.users.get(name)
    if user is None or user.password != password:
        count, _ = ipam.failures.get(call.source, (0, 0.0))
        ipam.failures[call.source] = (count + 1, ipam.now())
        ipam.failed_logins.append(ipam.now())
        raise Refusal(500, "Invalid username or password")
    if not user.enabled:
        raise Refusal(500, "User account is disabled")
    ipam.failures.pop(call.source, None)
    token = user.token if user.expires > ipam.now() else None
    await ipam.breathe(call)
    # Without the lock parallel first logins make a token each, and the last one written is the one that works.
    user.token = token or "".join(ipam.secrets.choices(TOKEN_LETTERS, k=24))
    user.expires = ipam.now() + TOKEN_SECONDS
    ipam.logins += 1
    return Answer(data={"token": user.token, "expires": _expires(user)}, fetched=False)


def _credentials(call: Call) -> tuple[str, str]:
    scheme, _, encoded = call.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise NO_CREDENTIALS
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unrecorded("Basic credentials that are not base64") from None
    if not name or not password:
        raise NO_CREDENTIALS
    return name, password


def _expires(user: User) -> str:
    """Local time of the server (here UTC), without a zone."""
    return datetime.fromtimestamp(user.expires, UTC).strftime("%Y-%m-%d %H:%M:%S")
