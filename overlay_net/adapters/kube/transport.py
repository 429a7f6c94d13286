"""Single requests to an API server: authorization, the write fence, decoding, and translation of errors."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp

from overlay_net.adapters.kube.connection import Connection
from overlay_net.adapters.kube.errors import parse_error, parse_retry_after, parse_status
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ApiError, Unavailable
from overlay_net.model.names import Resource
from overlay_net.runtime.connection_errors import describe_connection_error

LARGE = 64 * 1024
"""Size of JSON in bytes above which it is decoded in a thread: a megabyte would block the event loop too long."""
TIMEOUT = 30.0


class RequestObserver(Protocol):
    def observe_request(self, verb: str, resource: str, code: int | str, seconds: float, host: str) -> None: ...
    def record_contact(self) -> None: ...


class Transport:
    """All methods raise only errors of model.errors.

    ``fence`` is called before each write and returns the seconds that the write may take; it raises NotLeader if no
    write is allowed.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float = TIMEOUT,
        observer: RequestObserver | None = None,
        decode: Callable[[str], Any] = json.loads,
        fence: Callable[[], float] | None = None,
    ) -> None:
        """``decode`` decodes JSON text; it raises ValueError."""
        self._connection = connection
        self._decode = decode
        self._seconds = timeout
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._observer = observer
        self._host = connection.server.partition("://")[2]
        self._fence = fence

    async def call(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
        accept: str | None = None,
    ) -> JsonObject:
        """Send a request and decode the JSON object in its response."""
        headers = {"Accept": accept or "application/json", "Content-Type": content_type}
        async with self.request(
            method,
            verb,
            resource,
            path,
            params=query or {},
            headers=headers,
            data=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
            timeout=self._timeout,
        ) as response:
            content = await response.read()
        try:
            answer = await self.decode(content)
        except ValueError:
            what = f"{verb} {path}: {content[:80]!r}"
            raise Unavailable(f"{response.status} with invalid JSON").during(what) from None
        if not isinstance(answer, dict):
            raise Unavailable(f"{response.status} with JSON that is not an object").during(f"{verb} {path}")
        return answer

    async def decode(self, content: bytes) -> Any:
        """Decode a JSON value. Raises ValueError."""
        if len(content) < LARGE:
            return self._decode(content.decode())
        return await asyncio.to_thread(lambda: self._decode(content.decode()))

    @asynccontextmanager
    async def request(
        self, method: str, verb: str, resource: Resource, path: str, *, headers: Mapping[str, str], **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request. The response is open within the context; errors are translated.

        If the credentials are rejected or the server is not trusted, the files are reloaded and the request is retried
        once, as they may have just been rotated.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        code: int | str = "error"
        what = f"{verb} {path}"
        try:
            async with await self._open(method, path, headers, options) as response:
                code = response.status
                if code < 500:
                    self.record_contact()
                if not 200 <= response.status < 300:
                    status = parse_status(await response.content.read(65536))
                    raise parse_error(response.status, what, status, parse_retry_after(response.headers))
                try:
                    yield response
                finally:
                    _abort(response)
        except ApiError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = f"{what} of {self._host}"
            raise Unavailable(f"no answer: {describe_connection_error(error)}").during(what) from None
        finally:
            if self._observer is not None:
                self._observer.observe_request(verb, resource.plural, code, loop.time() - began, self._host)

    def record_contact(self) -> None:
        """Record that the server has answered, also in the middle of a stream."""
        if self._observer is not None:
            self._observer.record_contact()

    async def _open(
        self, method: str, path: str, headers: Mapping[str, str], options: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        authorization = await self._connection.authorization(False)
        response = await self._send(method, path, headers, authorization, options)
        if response.status != 401:
            return response
        renewed = await self._connection.tls.reload(failed=True)
        if not authorization and not renewed:
            return response
        response.release()
        return await self._send(method, path, headers, await self._connection.authorization(True), options)

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], authorization: str | None, options: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        sent = {**headers, "Authorization": authorization} if authorization else headers

        async def send(tls: ssl.SSLContext) -> aiohttp.ClientResponse:
            if self._fence is not None and method != "GET":
                # Called immediately before sending, after everything else that takes time.
                options["timeout"] = aiohttp.ClientTimeout(total=min(self._seconds, self._fence()))
            return await self._connection.session.request(
                method,
                self._connection.server + path,
                headers=sent,
                ssl=tls,
                server_hostname=self._connection.server_hostname,
                # A redirect would forward the credentials, and API servers do not send redirects.
                allow_redirects=False,
                **options,
            )

        return await self._connection.tls.open(send)


def _abort(response: aiohttp.ClientResponse) -> None:
    """Abort the connection of a response that was not read completely.

    A graceful close would wait for a TLS shutdown that an unresponsive server never sends.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
