"""Lists and watches objects of one kind for a reflector, with the same selector."""

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import aiohttp

from overlay_net.adapters.kube.errors import parse_error
from overlay_net.adapters.kube.rest import METADATA_ONLY, PAGE, TABLE, WITHOUT_OBJECTS, KubeApi, selectors
from overlay_net.model.api import JsonObject, Listing, WatchEvent, is_older
from overlay_net.model.errors import Expired, Unavailable
from overlay_net.model.names import Resource
from overlay_net.model.parse import parse_int

# The server ends a watch after this time; random, so that a thousand agents do not reconnect at once.
STREAM_SECONDS = (240, 300)
# Bookmarks are sent about once a minute (KEP-956). After two missed ones the connection is considered dead.
SILENCE_SECONDS = 150.0
# An object is at most about 3 MiB (etcd's request limit, --max-request-bytes, is 1.5 MiB of protobuf or JSON).
MAX_LINE = 64 * 2**20


class KubeSource:
    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        watch_versions: bool = False,
        page: int = PAGE,
        silence: float = SILENCE_SECONDS,
        max_line: int = MAX_LINE,
    ) -> None:
        """``watch_versions``: of the objects of watch events only ``metadata.resourceVersion`` is there."""
        self._api = api
        self._resource = resource
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._metadata_only = metadata_only
        self._watch_versions = watch_versions
        self._page = page
        self._silence = silence
        self._max_line = max_line
        self._listed = ""
        """The resourceVersion of a list that no watch has continued yet."""

    async def pages(self) -> AsyncGenerator[Listing, None]:
        version = ""
        async with aclosing(self._list_pages(self._page, metadata_only=self._metadata_only)) as pages:
            async for page in pages:
                version = page.resource_version
                yield page
                del page
        self._listed = version

    def _list_pages(self, size: int, *, metadata_only: bool) -> AsyncGenerator[Listing, None]:
        return self._api.pages(
            self._resource,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=metadata_only,
            page=size,
        )

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        """Yield the changes after ``resource_version`` until the server ends the stream.

        Raises Expired, also for an ERROR event, and Unavailable for a silent, broken or invalid stream: earlier events
        are valid, and the next watch continues after them.
        """
        if resource_version != self._listed:
            await self._check_history(resource_version)
        self._listed = ""
        query = selectors(self._label_selector, self._field_selector) | {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*STREAM_SECONDS)),
        }
        if self._watch_versions:
            query |= WITHOUT_OBJECTS
        path = self._resource.path()
        async with self._api.transport.request(
            "GET",
            "watch",
            self._resource,
            path,
            params=query,
            headers={"Accept": self._accept_events()},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self._silence),
        ) as response:
            async for line in _lines(response, self._max_line):
                self._api.transport.record_contact()
                event = await self._event(line, f"watch {path}")
                # Free the memory while waiting for the next event: lines may be large.
                del line
                yield event
                del event

    def _accept_events(self) -> str:
        if self._watch_versions:
            return TABLE
        return METADATA_ONLY.format("") if self._metadata_only else "application/json"

    async def _check_history(self, resource_version: str) -> None:
        """Raise Expired if the server has not reached ``resource_version``: its store was restored from a backup.

        It would accept the watch, and deliver nothing until it reaches that version again.
        """
        async with aclosing(self._list_pages(1, metadata_only=True)) as one:
            current = (await anext(one)).resource_version
        if is_older(current, resource_version):
            path = self._resource.path()
            raise Expired(f"watch {path}: the server is at resourceVersion {current}, before {resource_version}")

    async def _event(self, line: bytes, what: str) -> WatchEvent:
        try:
            raw = await self._api.transport.decode(line)
        except ValueError:
            raise Unavailable(f"{what}: a line that is not JSON: {line[:80]!r}") from None
        kind = raw.get("type") if isinstance(raw, dict) else None
        body: JsonObject | None = raw.get("object") if isinstance(raw, dict) else None
        if not isinstance(body, dict):
            raise Unavailable(f"{what}: a line that is not an event: {line[:80]!r}")
        match kind:
            case "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK":
                return WatchEvent(kind, body)
            case "ERROR":
                raise parse_error(parse_int(body.get("code"), 500), what, body)
            case _:
                raise Unavailable(f"{what}: an event of the unknown type {kind!r}")


async def _lines(response: aiohttp.ClientResponse, limit: int) -> AsyncIterator[bytes]:
    """Yield complete lines of up to ``limit`` bytes; the line reader of aiohttp fails at its buffer size."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        # Only the new chunk can contain a line end, so do not search a large line repeatedly.
        end = chunk.find(b"\n")
        if end < 0:
            rest += chunk
        else:
            start = 0
            while end >= 0:
                rest += chunk[start:end]
                if rest:
                    yield _take(rest)
                start = end + 1
                end = chunk.find(b"\n", start)
            rest += chunk[start:]
        if len(rest) > limit:
            raise Unavailable(f"watch {response.url.path}: a line of more than {limit} bytes")
    if rest:
        raise Unavailable(f"watch {response.url.path}: the stream ended in the middle of a line")


def _take(buffer: bytearray) -> bytes:
    """Return the content of the buffer and empty it."""
    content = bytes(buffer)
    buffer.clear()
    return content
