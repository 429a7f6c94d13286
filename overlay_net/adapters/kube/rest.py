"""The verbs of the Kubernetes API with translated errors. The caller retries."""

import builtins
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from overlay_net.adapters.kube.connection import Connection
from overlay_net.adapters.kube.transport import TIMEOUT, RequestObserver, Transport
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.errors import Unavailable
from overlay_net.model.names import Resource
from overlay_net.model.parse import find_object, find_objects, find_texts, find_version, parse_text

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
WITHOUT_OBJECTS = {"includeObject": "None"}
"""For a Table: a row of 0.1 kB, or a watch event of 0.3 kB, for an object of any size."""
PAGE = 100
"""Number of objects in a page: 100 Nodes of 15 kB are decoded in 15 ms."""
PAGE_OF_NAMES = 500
"""Number of rows of a Table in a page: they are decoded in 1 ms, which is about what the request costs."""


class KubeApi:
    """Bodies are JSON objects as in the API. All verbs raise only errors of model.errors; see Transport."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float = TIMEOUT,
        observer: RequestObserver | None = None,
        decode: Callable[[str], Any] = json.loads,
        fence: Callable[[], float] | None = None,
    ) -> None:
        self.connection = connection
        self.transport = Transport(connection, timeout=timeout, observer=observer, decode=decode, fence=fence)

    async def get(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        metadata_only: bool = False,
        not_before: str | None = None,
    ) -> JsonObject:
        """Return an object; with the resourceVersion ``not_before``, from the cache of the server once that has it."""
        path = resource.path(name, namespace=namespace)
        accept = METADATA_ONLY.format("") if metadata_only else None
        query = {"resourceVersion": not_before} if not_before is not None else {}
        return await self.transport.call("GET", "get", resource, path, query=query, accept=accept)

    async def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        page: int = PAGE,
    ) -> AsyncGenerator[Listing, None]:
        """Yield the whole collection page by page. Raises Expired if the continue token is too old.

        Only one page is in memory, if the caller frees it before it requests the next one.
        """
        accept = METADATA_ONLY.format("List") if metadata_only else None
        query = selectors(label_selector, field_selector) | {"limit": str(page)}
        path = resource.path(namespace=namespace)
        async with aclosing(self._answers(resource, path, query, accept, "items")) as answers:
            async for answer in answers:
                found = Listing(tuple(find_objects(answer, "items")), find_version(answer))
                del answer
                yield found
                del found

    async def _answers(
        self, resource: Resource, path: str, query: dict[str, str], accept: str | None, content: str
    ) -> AsyncGenerator[JsonObject, None]:
        """Yield the responses to a list page by page. Their objects are in the field ``content``; null means none.

        Raises Unavailable for a response without this field: it does not say that there are no objects.
        """
        while True:
            answer = await self.transport.call("GET", "list", resource, path, query=query, accept=accept)
            if content not in answer or not isinstance(answer[content], list | None):
                raise Unavailable(f"a response without {content}").during(f"list {path}")
            following = parse_text(find_object(answer, "metadata").get("continue"))
            yield answer
            del answer
            if not following:
                return
            query = query | {"continue": following}

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page: int = PAGE,
    ) -> Listing:
        """Return a whole collection of few or small objects. Raises Expired if the continue token is too old."""
        items: builtins.list[JsonObject] = []
        version = ""
        async for each in self.pages(
            resource,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            page=page,
        ):
            items += each.items
            version = each.resource_version
        return Listing(tuple(items), version)

    async def names(self, resource: Resource) -> set[str]:
        """Return the names of all objects of a cluster-scoped resource, from the first column of their table."""
        path, query = resource.path(), WITHOUT_OBJECTS | {"limit": str(PAGE_OF_NAMES)}
        async with aclosing(self._answers(resource, path, query, TABLE, "rows")) as answers:
            return {_name_in(row, path) async for answer in answers for row in find_objects(answer, "rows")}

    async def create(
        self,
        resource: Resource,
        body: JsonObject,
        *,
        namespace: str | None = None,
        field_manager: str | None = None,
        dry_run: bool = False,
    ) -> JsonObject:
        """Create an object. Raises AlreadyExists if the name is in use.

        ``dry_run``: the API server only validates the object, and returns what it would store.

        For server-side apply the creator is another manager than one of that name that applies: see apply_owned.
        """
        path = resource.path(namespace=namespace)
        query = {"fieldManager": field_manager} if field_manager is not None else {}
        return await self.transport.call("POST", "create", resource, path, query=query | _dry_run(dry_run), body=body)

    async def apply(
        self,
        resource: Resource,
        name: str,
        body: JsonObject,
        *,
        field_manager: str,
        namespace: str | None = None,
        subresource: str | None = None,
        metadata_only: bool = True,
    ) -> JsonObject:
        """Server-side apply. ``body`` has all fields of ``field_manager``; omitted ones are released."""
        path = resource.path(name, namespace=namespace, subresource=subresource)
        query = {"fieldManager": field_manager, "force": "true"}
        accept = METADATA_ONLY.format("") if metadata_only else None
        return await self.transport.call(
            "PATCH", "apply", resource, path, query=query, body=body, content_type=APPLY, accept=accept
        )

    async def update(
        self,
        resource: Resource,
        name: str,
        body: JsonObject,
        *,
        namespace: str | None = None,
        field_manager: str | None = None,
        dry_run: bool = False,
    ) -> JsonObject:
        """Replace the whole object; ``dry_run`` as for ``create``.

        Raises Conflict if ``metadata.resourceVersion`` is outdated.
        """
        path = resource.path(name, namespace=namespace)
        query = {"fieldManager": field_manager} if field_manager is not None else {}
        return await self.transport.call("PUT", "update", resource, path, query=query | _dry_run(dry_run), body=body)

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        body: JsonObject,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> JsonObject:
        """Apply a merge patch (RFC 7386), conditional if it has a ``metadata.resourceVersion``."""
        path = resource.path(name, namespace=namespace, subresource=subresource)
        return await self.transport.call("PATCH", "patch", resource, path, body=body, content_type=MERGE)

    async def delete(
        self, resource: Resource, name: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        """Delete the object. Raises Conflict if its uid or resourceVersion differs from the given one."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {key: value for key, value in preconditions.items() if value is not None},
        }
        await self.transport.call("DELETE", "delete", resource, resource.path(name), body=body)


def _name_in(row: JsonObject, path: str) -> str:
    cells = find_texts(row, "cells")
    if not cells:
        raise Unavailable("a row without a name").during(f"list {path}")
    return cells[0]


def _dry_run(enabled: bool) -> dict[str, str]:
    return {"dryRun": "All"} if enabled else {}


def selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in chosen.items() if value is not None}
