"""Access control: apps, transport security, tokens and codes, blocked addresses, and the user controller."""

import base64
import binascii
import string
from datetime import UTC, datetime

from lab.phpipam.call import WRITES, Answer, Call, Refusal, Unrecorded
from lab.phpipam.server import BLOCK_SECONDS, TOLERATED_FAILURES, App, Server, User

TOKEN_SECONDS, REFRESH_SECONDS = 6 * 3600, 60
TOKEN_LETTERS = string.ascii_letters + string.digits + "_-"
BLOCKED = "Your IP has been blocked for 5 minutes because of excessive login failures"
NO_CREDENTIALS = Refusal(400, "Please provide username and password")


def find_app(server: Server, call: Call) -> App:
    """The app of a call, if its settings permit the call; raises Refusal otherwise."""
    if not server.api_enabled:
        raise Refusal(503, "API server disabled")
    app = server.apps.get(str(call.params.get("app_id", "")).lower())
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
    safe = server.allow_unsafe if app.security == "none" else call.https
    if not safe:
        raise Refusal(503, "SSL connection is required for API")
    return app


def authorise(server: Server, app: App, call: Call) -> None:
    """Check a call to any controller but user/. Raises Refusal."""
    reject_blocked(server, call)
    token = read_token(call)
    if app.security == "ssl_code":
        _check_code(server, app, token)
    else:
        user = _find_user(server, token)
        if user is None or user.expires <= server.now():
            raise Refusal(401, "Unauthorized")
        _extend(server, user)
    if not call.controller:
        if call.method != "OPTIONS":
            raise Refusal(400, "Request is not valid")
    elif call.method in WRITES and app.permission < 2:
        raise Refusal(401, "invalid permissions")


def reject_blocked(server: Server, call: Call) -> None:
    count, last = server.failures.get(call.source, (0, 0.0))
    if count and server.now() - last >= BLOCK_SECONDS:
        del server.failures[call.source]
        count = 0
    if count > TOLERATED_FAILURES or server.faults.blocked:
        raise Refusal(500, BLOCKED)


def read_token(call: Call) -> str:
    return call.headers.get("phpipam-token") or call.headers.get("token") or ""


def _check_code(server: Server, app: App, code: str) -> None:
    if app.code is not None and code == app.code:
        return
    if code and any(other.code == code for other in server.apps.values()):
        raise Refusal(403, "Invalid token")
    raise Refusal(401, "Unauthorized")


def _find_user(server: Server, token: str) -> User | None:
    # The database compares case-insensitively.
    matches = (user for user in server.users.values() if user.token and user.token.lower() == token.lower())
    return next(matches, None)


def _extend(server: Server, user: User) -> None:
    until = server.now() + TOKEN_SECONDS
    if until - user.expires >= REFRESH_SECONDS:
        user.expires = until


async def user_controller(server: Server, app: App, call: Call) -> Answer:
    reject_blocked(server, call)
    if call.method == "POST":
        return await _login(server, call)
    if app.security == "ssl_code":
        return _user_of_code_app(server, app, call)
    token = read_token(call)
    if not token:
        raise Refusal(403, "Please provide token")
    user = _find_user(server, token)
    if user is None:
        raise Refusal(403, "Invalid token")
    if user.expires <= server.now():
        raise Refusal(403, "Token expired")
    match call.method, call.text("id"):
        case "GET" | "HEAD", None | "token" | "token_expires":
            return Answer(data={"expires": _expires(user)}, fetched=False)
        case "GET", "all" | "admins":
            if app.permission < 3:
                raise Refusal(503, "Invalid app permissions")
            raise Unrecorded("the rows of the user table")
        case "GET", _:
            raise Refusal(400, "Invalid identifier")
        case "PATCH" | "PUT", None:
            _extend(server, user)
            return Answer(data={"expires": _expires(user)}, fetched=False)
        case "DELETE", None:
            user.token = None
            return Answer(data=["Token removed"], fetched=False)
    raise Unrecorded("this call of user/")


def _user_of_code_app(server: Server, app: App, call: Call) -> Answer:
    _check_code(server, app, read_token(call))
    match call.method, call.text("id"):
        case "GET", _:
            raise Refusal(409, "Authentication not needed")
        case "PATCH", None:
            raise Refusal(500, "Error: Missing primary key")
    raise Unrecorded("this call of user/ on an app with a code")


async def _login(server: Server, call: Call) -> Answer:
    name, password = _credentials(call)
    user = server.users.get(name)
    if user is None or user.password != password:
        count, _ = server.failures.get(call.source, (0, 0.0))
        server.failures[call.source] = (count + 1, server.now())
        server.failed_logins.append(server.now())
        raise Refusal(500, "Invalid username or password")
    if not user.enabled:
        raise Refusal(500, "User account is disabled")
    server.failures.pop(call.source, None)
    token = user.token if user.expires > server.now() else None
    await server.allow_race(call)
    # Without the lock each of several parallel first logins creates a token, and only the last one written is valid.
    user.token = token or "".join(server.secrets.choices(TOKEN_LETTERS, k=24))
    user.expires = server.now() + TOKEN_SECONDS
    server.logins += 1
    return Answer(data={"token": user.token, "expires": _expires(user)}, fetched=False)


def _credentials(call: Call) -> tuple[str, str]:
    scheme, _, encoded = call.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise NO_CREDENTIALS
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unrecorded("Basic credentials that are not valid base64") from None
    if not name or not password:
        raise NO_CREDENTIALS
    return name, password


def _expires(user: User) -> str:
    """Local time of the server, here UTC, without a time zone."""
    return datetime.fromtimestamp(user.expires, UTC).strftime("%Y-%m-%d %H:%M:%S")
