"""The verbs of the Kubernetes API with translated errors; retries are up to the caller."""

import asyncio
import builtins
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp

from overlay_net.adapters.kube.connection import Connection
from overlay_net.adapters.kube.errors import parse_error, parse_status
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.errors import ApiError, Unavailable
from overlay_net.model.names import Resource
from overlay_net.model.parse import find_object, find_objects, parse_text

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
PAGE = 500
LARGE = 64 * 1024
"""Bytes of JSON from which on they are decoded in a thread: a megabyte would block the event loop for too long."""
TIMEOUT = 30.0


class RequestObserver(Protocol):
    def observe_request(self, verb: str, resource: str, code: int | str, seconds: float, host: str) -> None: ...


class KubeApi:
    """Bodies are JSON objects as in the API. All verbs raise only the errors of model.errors.

    ``fence`` is called before each write and returns the seconds that it may take; it raises NotLeader if it is not
    allowed.
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

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, metadata_only: bool = False
    ) -> JsonObject:
        accept = METADATA_ONLY.format("") if metadata_only else None
        return await self._call("GET", "get", resource, resource.path(name, namespace=namespace), accept=accept)

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        page: int = PAGE,
    ) -> Listing:
        """The whole collection, fetched in pages. Raises Expired if the continue token is too old."""
        accept = METADATA_ONLY.format("List") if metadata_only else None
        query = selectors(label_selector, field_selector) | {"limit": str(page)}
        items: builtins.list[JsonObject] = []
        while True:
            path = resource.path(namespace=namespace)
            answer = await self._call("GET", "list", resource, path, query=query, accept=accept)
            items += find_objects(answer, "items")
            metadata = find_object(answer, "metadata")
            if not parse_text(metadata.get("continue")):
                return Listing(tuple(items), parse_text(metadata.get("resourceVersion")))
            query["continue"] = parse_text(metadata["continue"])

    async def create(self, resource: Resource, body: JsonObject, *, namespace: str | None = None) -> JsonObject:
        """Raises AlreadyExists if the name is taken."""
        return await self._call("POST", "create", resource, resource.path(namespace=namespace), body=body)

    async def apply(
        self,
        resource: Resource,
        name: str,
        body: JsonObject,
        *,
        field_manager: str,
        subresource: str | None = None,
    ) -> JsonObject:
        """Server-side apply: ``body`` has all fields of ``field_manager``; those that it omits are released.

        The response is limited to metadata: the watch delivers the whole object, which may be a megabyte.
        """
        path = resource.path(name, subresource=subresource)
        query = {"fieldManager": field_manager, "force": "true"}
        accept = METADATA_ONLY.format("")
        return await self._call(
            "PATCH", "apply", resource, path, query=query, body=body, content_type=APPLY, accept=accept
        )

    async def update(
        self, resource: Resource, name: str, body: JsonObject, *, namespace: str | None = None
    ) -> JsonObject:
        """Replace the whole object; raises Conflict if ``metadata.resourceVersion`` is outdated."""
        return await self._call("PUT", "update", resource, resource.path(name, namespace=namespace), body=body)

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        body: JsonObject,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> JsonObject:
        """A merge patch (RFC 7386); a ``metadata.resourceVersion`` in it makes it conditional."""
        path = resource.path(name, namespace=namespace, subresource=subresource)
        return await self._call("PATCH", "patch", resource, path, body=body, content_type=MERGE)

    async def delete(
        self, resource: Resource, name: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        """Delete the object. Raises Conflict if it has another ``uid`` or ``resource_version`` than given."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {key: value for key, value in preconditions.items() if value is not None},
        }
        await self._call("DELETE", "delete", resource, resource.path(name), body=body)

    async def _call(
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
        headers = {"Accept": accept or "application/json", "Content-Type": content_type}
        async with self.request(
            method,
            verb,
            resource,
            path,
            params=query or {},
            headers=headers,
            data=None if body is None else json.dumps(body).encode(),
            timeout=self._timeout,
        ) as response:
            content = await response.read()
        try:
            answer = await self.decode(content)
        except ValueError:
            raise Unavailable(f"{verb} {path}: {response.status} with invalid JSON: {content[:80]!r}") from None
        if not isinstance(answer, dict):
            raise Unavailable(f"{verb} {path}: {response.status} with JSON that is not an object")
        return answer

    async def decode(self, content: bytes) -> Any:
        """The JSON value. Raises ValueError."""
        if len(content) < LARGE:
            return self._decode(content.decode())
        return await asyncio.to_thread(lambda: self._decode(content.decode()))

    @asynccontextmanager
    async def request(
        self, method: str, verb: str, resource: Resource, path: str, *, headers: Mapping[str, str], **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; the successful response is open within the context, and errors are translated.

        If the token is rejected it is reloaded and the request is retried once: it may have just been rotated.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        code: int | str = "error"
        what = f"{verb} {path}"
        try:
            for refused in (False, True):
                authorization = await self._connection.authorization(refused)
                sent = {**headers, "Authorization": authorization} if authorization else headers
                if self._fence is not None and method != "GET":
                    # Called immediately before sending, after everything else that takes time.
                    options["timeout"] = aiohttp.ClientTimeout(total=min(self._seconds, self._fence()))
                async with self._connection.session.request(
                    method,
                    self._connection.server + path,
                    headers=sent,
                    server_hostname=self._connection.server_hostname,
                    # A redirect would forward the credentials, and API servers send none.
                    allow_redirects=False,
                    **options,
                ) as response:
                    code = response.status
                    if response.status == 401 and not refused and authorization:
                        continue
                    if not 200 <= response.status < 300:
                        status = parse_status(await response.content.read(65536))
                        raise parse_error(response.status, what, status, response.headers.get("Retry-After"))
                    try:
                        yield response
                    finally:
                        _abort(response)
                    return
        except ApiError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{what}: {type(error).__name__} {error}".rstrip()) from None
        finally:
            if self._observer is not None:
                self._observer.observe_request(verb, resource.plural, code, loop.time() - began, self._host)


def _abort(response: aiohttp.ClientResponse) -> None:
    """Abort the connection of a response that was not read completely.

    A graceful close would wait for the TLS shutdown of the peer, which an unresponsive server does not send.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in chosen.items() if value is not None}
