"""The calls of phpIPAM's REST API that an address client needs: one log-in for all, bounded, with translated errors.

Trying again is the caller's decision, but for one thing: a refused token is renewed, and the call repeated once.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from overlay_net.adapters.phpipam.circuit_breaker import CircuitBreaker
from overlay_net.adapters.phpipam.credentials import Credentials, Secret
from overlay_net.adapters.phpipam.responses import AnswerLost, NothingFound, TokenRefused, data_of
from overlay_net.model.errors import (
    CredentialsRefused,
    Exhausted,
    NotLeader,
    OverlayNetError,
    Refused,
    Unavailable,
)

Fields = Mapping[str, str | int]

_LOGIN_REFUSED = ("Invalid username or password", "User account is disabled")


class Observer(Protocol):
    def observe_phpipam_request(self, operation: str, outcome: str, seconds: float) -> None: ...
    def observe_phpipam_login(self, outcome: str) -> None: ...


class Client:
    """``url`` is that of the server, ``app`` the id of the API app; ``code``: the app has a static code, no log-in.

    ``fence`` is asked before each write; it raises NotLeader where another process may write by now.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        app: str,
        credentials: Credentials,
        breaker: CircuitBreaker,
        observer: Observer,
        *,
        code: bool = False,
        concurrency: int = 8,
        fence: Callable[[], float] | None = None,
    ) -> None:
        self._session = session
        self._base = f"{url.rstrip('/').removesuffix('/api')}/api/{quote(app, safe='')}"
        self._app = app
        self._credentials = credentials
        self._gate = breaker
        self._observer = observer
        self._code = code
        self._fence = fence
        # The server carries out writes one after the other, reads beside them: neither waits for a turn of the other.
        self._turns = {"GET": asyncio.Semaphore(concurrency)}
        self._write_turn = asyncio.Semaphore(concurrency)
        self._token = ""
        self._login = asyncio.Lock()
        self._renewals = 0

    # --- Calls ---------------------------------------------------------------------------------------------------

    async def subnet(self, subnet: int) -> dict[str, Any]:
        return _object(await self._call("subnet", "GET", ("subnets", subnet)))

    async def usage(self, subnet: int) -> dict[str, Any]:
        return _object(await self._call("usage", "GET", ("subnets", subnet, "usage")))

    async def children(self, subnet: int) -> list[dict[str, Any]]:
        return await self._list("children", ("subnets", subnet, "slaves"))

    async def rows(self, subnet: int, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The rows of a subnet, where ``query`` is given those that the server's filter passes."""
        return await self._list("list", ("subnets", subnet, "addresses"), query)

    async def by_hostname(self, hostname: str) -> list[dict[str, Any]]:
        return await self._list("find", ("addresses", "search_hostname", hostname))

    async def by_ip(self, address: str) -> list[dict[str, Any]]:
        """Over all subnets of the server: compare ``subnetId``."""
        return await self._list("verify", ("addresses", "search", address))

    async def row(self, record: int) -> dict[str, Any]:
        return _object(await self._call("read", "GET", ("addresses", record)))

    async def first_free(self, subnet: int, fields: Fields) -> tuple[int, str]:
        """Creates a row at the lowest free address: its id and address. Raises Exhausted, Conflict, AnswerLost."""
        answer = await self._call("reserve", "POST", ("addresses", "first_free", subnet), fields)
        return _identity(answer), str(answer.get("data"))

    async def create(self, subnet: int, address: str, fields: Fields) -> int:
        """Creates a row at ``address``: its id. Raises Conflict, AnswerLost."""
        body = {**fields, "subnetId": subnet, "ip": address}
        return _identity(await self._call("reserve", "POST", ("addresses",), body))

    async def update(self, record: int, fields: Fields) -> None:
        """``fields`` must hold ``tag``: without one phpIPAM resets it."""
        await self._call("update", "PATCH", ("addresses", record), fields)

    async def delete(self, record: int) -> None:
        await self._call("release", "DELETE", ("addresses", record))

    async def renew_credentials(self) -> None:
        """The credentials have changed: whatever was given for the old ones is forgotten, and the next call tries."""
        self._token = ""
        self._renewals += 1
        self._gate.reset()

    # --- How a call is made --------------------------------------------------------------------------------------

    async def _list(
        self, operation: str, path: tuple[str | int, ...], query: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        try:
            data = (await self._call(operation, "GET", path, query=query)).get("data")
        except NothingFound:
            return []
        return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []

    async def _call(
        self,
        operation: str,
        method: str,
        path: tuple[str | int, ...],
        body: Fields | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        async with self._turns.get(method, self._write_turn):
            ticket = self._gate.enter()
            began, outcome, renewals = loop.time(), "error", self._renewals
            try:
                answer = await self._authorized(ticket, method, path, body, query)
                outcome = "ok"
            except NotLeader:
                # Nothing was asked.
                raise
            except Unavailable as error:
                outcome = "refused" if isinstance(error, CredentialsRefused) else "unavailable"
                if outcome == "refused" and renewals != self._renewals:
                    # These were the credentials of before.
                    raise Unavailable(str(error), retry_after=0.0) from None
                self._gate.failed(error)
                raise
            except OverlayNetError as error:
                # It answered: there is nothing wrong with the server itself.
                outcome = "exhausted" if isinstance(error, Exhausted) else type(error).__name__.lower()
                self._gate.succeeded()
                raise
            finally:
                self._observer.observe_phpipam_request(operation, outcome, loop.time() - began)
        self._gate.succeeded()
        return answer

    async def _authorized(
        self,
        ticket: int,
        method: str,
        path: tuple[str | int, ...],
        body: Fields | None,
        query: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        token = await self._current_token(ticket)
        try:
            return await self._send(method, path, body, query, {"token": token})
        except TokenRefused as error:
            if self._code:
                raise CredentialsRefused(f"phpIPAM app {self._app!r} refuses the code: {error}") from None
            if self._token == token:
                self._token = ""
        token = await self._current_token(ticket)
        try:
            return await self._send(method, path, body, query, {"token": token})
        except TokenRefused as error:
            raise CredentialsRefused(
                f"phpIPAM app {self._app!r} refuses the token of its own log-in: {error}"
            ) from None

    async def _current_token(self, ticket: int) -> str:
        """The token that all calls share; whoever comes first without one logs in, the others wait for it."""
        if self._code:
            return self._credentials.read().code
        if self._token:
            return self._token
        async with self._login:
            if not self._token:
                self._gate.recheck(ticket)
                self._token = await self._log_in(self._credentials.read())
        return self._token

    async def _log_in(self, secret: Secret) -> str:
        outcome = "error"
        if ":" in secret.username:
            raise CredentialsRefused("phpIPAM credentials: username has a colon, which no log-in can carry")
        basic = {"Authorization": aiohttp.encode_basic_auth(secret.username, secret.password)}
        try:
            answer = await self._send("POST", ("user",), {}, None, basic)
            token = _object(answer).get("token")
            if not isinstance(token, str) or not token:
                raise Unavailable("POST user/: an answer without a token")
            outcome = "ok"
        except AnswerLost as error:
            # phpIPAM reports a wrong password and a disabled user as errors of its own (HTTP 500).
            reason = next((text for text in _LOGIN_REFUSED if text in str(error)), None)
            if reason is None:
                # What was to be done after it was not begun.
                raise Unavailable(str(error)) from None
            outcome = "refused"
            message = f"phpIPAM app {self._app!r} refuses user name or password: {reason}"
            raise CredentialsRefused(message) from None
        except (Refused, TokenRefused) as error:
            outcome = "refused"
            raise CredentialsRefused(f"phpIPAM app {self._app!r} lets nobody log in: {error}") from None
        finally:
            self._observer.observe_phpipam_login(outcome)
        return token

    async def _send(
        self,
        method: str,
        path: tuple[str | int, ...],
        body: Fields | None,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        # A slash at the end always: before a query the last segment would swallow it.
        target = "/".join(quote(str(part), safe=":") for part in path) + "/"
        what = f"{method} {target}"
        url = f"{self._base}/{target}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        if self._fence is not None and method != "GET" and path != ("user",):
            # Directly before it is sent: everything that may have taken its time is done.
            self._fence()
        try:
            async with self._session.request(
                method,
                # Encoded already, and an encoded slash must stay so.
                URL(url, encoded=True),
                data=None if body is None else json.dumps(body).encode(),
                # Also without a body: 1.7 behind nginx refuses every request that has no content type.
                headers={**headers, "Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                if 300 <= response.status < 400:
                    raise CredentialsRefused(f"{what}: {response.status}: the URL leads elsewhere; set the final one")
                return data_of(response.status, await response.read(), what)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientSSLError) as error:
            # No connection came about: nothing was asked.
            raise Unavailable(f"phpIPAM cannot be reached: {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AnswerLost(f"{what}: {type(error).__name__}") from None


def _object(answer: Mapping[str, Any]) -> dict[str, Any]:
    data = answer.get("data")
    if not isinstance(data, dict):
        raise Unavailable("phpIPAM answered without the object that was asked for")
    return data


def _identity(answer: Mapping[str, Any]) -> int:
    try:
        return int(answer["id"])
    except (KeyError, TypeError, ValueError):
        raise AnswerLost("phpIPAM created a row and did not say which") from None
