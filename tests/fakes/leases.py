"""The Leases of an API server in memory; it refuses what the real one refuses (tests/component/test_leases.py)."""

import asyncio
import copy

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, Conflict, NotFound, Unavailable
from overlay_net.model.names import Resource


class Leases:
    def __init__(self) -> None:
        self.objects: dict[tuple[str | None, str], JsonObject] = {}
        self.version = 0
        self.away = False
        """It refuses every call."""
        self.hanging = False
        """It answers no call, ever; what is asked meanwhile is not done."""
        self.loses_answers = False
        """It does what it is asked, and answers not."""
        self.late = 0.0
        """Seconds until it answers."""

    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> JsonObject:
        await self._reach()
        found = self.objects.get((namespace, name))
        if found is None:
            raise NotFound(f"get {resource.path(name, namespace=namespace)}: 404 NotFound")
        return await self._answer(found)

    async def create(self, resource: Resource, body: JsonObject, *, namespace: str | None = None) -> JsonObject:
        await self._reach()
        key = (namespace, body["metadata"]["name"])
        if key in self.objects:
            raise AlreadyExists(f"create {resource.path(namespace=namespace)}: 409 AlreadyExists")
        return await self._answer(self.put(key, body))

    async def update(
        self, resource: Resource, name: str, body: JsonObject, *, namespace: str | None = None
    ) -> JsonObject:
        await self._reach()
        present = self.objects.get((namespace, name))
        what = f"update {resource.path(name, namespace=namespace)}"
        # Also where there is none: the uid in the body is then a precondition that does not hold.
        if present is None or body["metadata"].get("resourceVersion") != present["metadata"]["resourceVersion"]:
            raise Conflict(f"{what}: 409 Conflict")
        return await self._answer(self.put((namespace, name), body))

    def put(self, key: tuple[str | None, str], body: JsonObject) -> JsonObject:
        self.version += 1
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = stored
        return stored

    async def _reach(self) -> None:
        if self.away:
            raise Unavailable("the API server is away")
        while self.hanging:
            await asyncio.sleep(3600)

    async def _answer(self, stored: JsonObject) -> JsonObject:
        if self.loses_answers:
            raise Unavailable("the connection broke")
        await asyncio.sleep(self.late)
        return copy.deepcopy(stored)
