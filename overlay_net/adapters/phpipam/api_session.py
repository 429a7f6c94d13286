"""Requests to phpIPAM's REST API: one login for all of them, bounded concurrency, translated errors.

Requests are not retried, with one exception: after a rejected token the session logs in and repeats the request once.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp

from overlay_net.adapters.phpipam.circuit_breakers import Admission, CircuitBreakers
from overlay_net.adapters.phpipam.connection import Connection
from overlay_net.adapters.phpipam.credentials import Credentials, Secret
from overlay_net.adapters.phpipam.database_errors import find_database_error
from overlay_net.adapters.phpipam.request import Request, base_url, parse_object, send
from overlay_net.adapters.phpipam.responses import RECHECK_SECONDS, ResponseLost, TokenRefused
from overlay_net.model.errors import (
    ApiError,
    CredentialsRefused,
    Exhausted,
    IpamError,
    Refused,
    Unavailable,
)

log = logging.getLogger(__name__)

_LOGIN = Request("POST", ("user",), {})
_LOGIN_ERRORS = {"Invalid username or password": None, "User account is disabled": RECHECK_SECONDS}
"""The errors of a login, and when to try again if the error does not count towards a lock-out."""


class Observer(Protocol):
    def observe_phpipam_request(self, operation: str, outcome: str, seconds: float) -> None: ...
    def observe_phpipam_login(self, outcome: str) -> None: ...


class ApiSession:
    """``url`` is that of the server, ``app`` the id of the API app, ``code`` whether it uses an app code and no login.

    ``fence`` is called before each write; it raises NotLeader if another process may write.
    """

    def __init__(
        self,
        http: Connection,
        url: str,
        app: str,
        credentials: Credentials,
        breakers: CircuitBreakers,
        observer: Observer,
        *,
        code: bool = False,
        concurrency: int = 8,
        fence: Callable[[], float] | None = None,
    ) -> None:
        self._http = http
        self._base = base_url(url, app)
        self._app = app
        self._credentials = credentials
        self.breakers = breakers
        self._observer = observer
        self._code = code
        self._fence = fence
        # The server serialises writes but not reads, so reads must not wait for writes.
        self._reads = asyncio.Semaphore(concurrency)
        self._writes = asyncio.Semaphore(concurrency)
        self._token = ""
        self._login_lock = asyncio.Lock()
        self._renewals = 0

    async def call(self, operation: str, request: Request) -> dict[str, Any]:
        """Send a request and return the envelope of the response. Raises as ``parse_response``.

        ``operation`` names the request in metrics.
        """
        loop = asyncio.get_running_loop()
        async with self._reads if request.is_read else self._writes:
            admission = self.breakers.admit(request.subnet, is_read=request.is_read)
            began, outcome = loop.time(), "error"
            try:
                envelope = await self._send_admitted(admission, request)
                outcome = "ok"
            except Unavailable as error:
                outcome = "refused" if isinstance(error, CredentialsRefused) else "unavailable"
                raise
            except Refused:
                outcome = "refused"
                raise
            except ApiError as error:
                outcome = type(error).__name__.lower()
                raise
            except Exhausted:
                outcome = "exhausted"
                raise
            finally:
                self._observer.observe_phpipam_request(operation, outcome, loop.time() - began)
        return envelope

    async def renew_credentials(self) -> None:
        """Discard the token and the errors of the previous credentials."""
        self._token = ""
        self._renewals += 1
        self.breakers.server.allow_probe()

    async def _send_admitted(self, admission: Admission, request: Request) -> dict[str, Any]:
        """Send a request and report to its breakers how it ended."""
        renewals = self._renewals
        try:
            envelope = await self._send_authorized(admission, request)
        except Unavailable as error:
            if isinstance(error, CredentialsRefused) and renewals != self._renewals:
                # The credentials have changed in the meantime, so the error is outdated.
                admission.abandoned()
                raise Unavailable(error.message, retry_after=0.0).during(error.request) from None
            log.debug("request to phpIPAM failed", extra={"error": str(error)})
            admission.failed(error)
            raise
        except (ApiError, IpamError):
            # The server has processed the request.
            admission.succeeded()
            raise
        except BaseException:
            admission.abandoned()
            raise
        admission.succeeded()
        return envelope

    async def _send_authorized(self, admission: Admission, request: Request) -> dict[str, Any]:
        token = await self._get_token(admission)
        try:
            return await self._send(request, {"token": token})
        except TokenRefused as error:
            if self._code:
                text = f"phpIPAM API app {self._app!r} rejected the app code: {error.message}"
                raise CredentialsRefused(f"{text}; update the code in the Secret") from None
            # Another call may have logged in in the meantime.
            if self._token == token:
                self._token = ""
        token = await self._get_token(admission)
        try:
            return await self._send(request, {"token": token})
        except TokenRefused as error:
            text = f"phpIPAM API app {self._app!r} rejected a token just issued: {error.message}"
            raise CredentialsRefused(text) from None

    async def _get_token(self, admission: Admission) -> str:
        """Return the token shared by all calls. The first call without a token logs in while the others wait."""
        if self._code:
            return self._credentials.read().code
        if self._token:
            return self._token
        async with self._login_lock:
            if not self._token:
                admission.recheck()
                self._token = await self._log_in(self._credentials.read())
        return self._token

    async def _log_in(self, secret: Secret) -> str:
        if ":" in secret.username:
            raise CredentialsRefused(
                "phpIPAM credentials: username contains a colon, which HTTP basic authentication cannot carry"
            )
        basic = {"Authorization": aiohttp.encode_basic_auth(secret.username, secret.password)}
        outcome = "error"
        try:
            token = parse_object(await self._send(_LOGIN, basic)).get("token")
            if not isinstance(token, str) or not token:
                raise Unavailable("phpIPAM: the response to the login has no token")
            outcome = "ok"
        except ResponseLost as error:
            # phpIPAM reports a wrong password and a disabled user with HTTP 500.
            reason = next((text for text in _LOGIN_ERRORS if text in str(error)), None)
            if reason is None:
                # The request that needed the login was not sent, so its outcome is known.
                raise Unavailable(error.message).during(error.request) from None
            outcome = "refused"
            message = f"phpIPAM API app {self._app!r} rejected the username or password: {reason}; correct the Secret"
            raise CredentialsRefused(message, retry_after=_LOGIN_ERRORS[reason]) from None
        except (Refused, TokenRefused) as error:
            if find_database_error(str(error)) is not None:
                raise
            outcome = "refused"
            raise CredentialsRefused(f"phpIPAM API app {self._app!r} rejected the login: {error.message}") from None
        finally:
            self._observer.observe_phpipam_login(outcome)
        return token

    async def _send(self, request: Request, headers: dict[str, str]) -> dict[str, Any]:
        if self._fence is not None and not request.is_read and request is not _LOGIN:
            # Called immediately before sending, after everything else that takes time.
            self._fence()
        return await send(self._http, self._base, request, headers)
