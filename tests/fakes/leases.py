"""Leases of an API server in memory, with the same errors as the real one (tests/component/test_leases.py)."""

import asyncio
import copy

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, Conflict, NotFound, Unavailable
from overlay_net.model.names import Resource


class Leases:
    def __init__(self) -> None:
        self.objects: dict[tuple[str | None, str], JsonObject] = {}
        self.version = 0
        self.unreachable = False
        """Every call fails."""
        self.hanging = False
        """Calls neither return nor have an effect."""
        self.loses_responses = False
        """Calls have their effect and then fail."""
        self.late = 0.0
        """Seconds until a response."""

    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> JsonObject:
        await self._receive()
        found = self.objects.get((namespace, name))
        if found is None:
            raise NotFound(f"get {resource.path(name, namespace=namespace)}: 404 NotFound")
        return await self._respond(found)

    async def create(self, resource: Resource, body: JsonObject, *, namespace: str | None = None) -> JsonObject:
        await self._receive()
        key = (namespace, body["metadata"]["name"])
        if key in self.objects:
            raise AlreadyExists(f"create {resource.path(namespace=namespace)}: 409 AlreadyExists")
        return await self._respond(self.put(key, body))

    async def update(
        self, resource: Resource, name: str, body: JsonObject, *, namespace: str | None = None
    ) -> JsonObject:
        await self._receive()
        present = self.objects.get((namespace, name))
        what = f"update {resource.path(name, namespace=namespace)}"
        # Also if it does not exist: the uid in the body is then a precondition that fails.
        if present is None or body["metadata"].get("resourceVersion") != present["metadata"]["resourceVersion"]:
            raise Conflict(f"{what}: 409 Conflict")
        return await self._respond(self.put((namespace, name), body))

    def put(self, key: tuple[str | None, str], body: JsonObject) -> JsonObject:
        self.version += 1
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = stored
        return stored

    async def _receive(self) -> None:
        if self.unreachable:
            raise Unavailable("the API server is unreachable")
        while self.hanging:
            await asyncio.sleep(3600)

    async def _respond(self, stored: JsonObject) -> JsonObject:
        if self.loses_responses:
            raise Unavailable("the connection broke")
        await asyncio.sleep(self.late)
        return copy.deepcopy(stored)
