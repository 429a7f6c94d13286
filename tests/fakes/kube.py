"""The verbs of KubeApi over objects in memory; tests/contract/test_kube.py holds it to a real API server.

It keeps what decisions lean on: uids, generations, resourceVersions that change only when an object does,
preconditions, finalizers, the status subresource, and server-side apply with its field managers. It validates nothing.
"""

import builtins
import copy
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any

from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.errors import AlreadyExists, Conflict, NotFound, Refused
from overlay_net.model.names import Resource
from overlay_net.model.parse import encode_time
from tests.fakes.field_managers import FieldManagers, merged
from tests.fakes.messages import check_conditions

Key = tuple[str, str | None, str]
"""Plural, namespace and name."""

SERVER_FIELDS = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")
"""Of the metadata; a client cannot write them."""


class InMemoryKube:
    """Every write is passed to ``subscribers`` as the event that a watch would deliver."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.subscribers: builtins.list[Callable[[Resource, WatchEvent], None]] = []
        self._now = now
        self._objects: dict[Key, JsonObject] = {}
        self._managers: dict[Key, FieldManagers] = {}
        self._version = 0

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, metadata_only: bool = False
    ) -> JsonObject:
        return copy.deepcopy(self._present(resource, name, namespace, "get"))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
    ) -> Listing:
        found = [
            {"metadata": copy.deepcopy(each["metadata"])} if metadata_only else copy.deepcopy(each)
            for key, each in self._objects.items()
            if key[0] == resource.plural and namespace in (None, key[1]) and matches(each, label_selector)
        ]
        return Listing(tuple(found), str(self._version))

    async def names(self, resource: Resource) -> set[str]:
        return {each["metadata"]["name"] for each in (await self.list(resource, metadata_only=True)).items}

    async def pages(self, resource: Resource, *, page: int = 0, **options: Any) -> AsyncGenerator[Listing, None]:
        yield await self.list(resource, **options)

    async def create(
        self, resource: Resource, body: JsonObject, *, namespace: str | None = None, field_manager: str | None = None
    ) -> JsonObject:
        key = (resource.plural, namespace, body["metadata"]["name"])
        if key in self._objects:
            raise AlreadyExists(f"create {resource.path(namespace=namespace)}: 409 AlreadyExists")
        desired = {name: value for name, value in body.items() if name != "status"}
        self._managers[key] = FieldManagers()
        self._managers[key].updated(field_manager or "create", {}, desired)
        return self._created(resource, key, desired)

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
        key = (resource.plural, namespace, name)
        present = self._objects.get(key)
        what = f"apply {resource.path(name, namespace=namespace, subresource=subresource)}"
        _check(present, body, what, status=subresource is not None)
        if present is None and subresource is not None:
            raise NotFound(f"{what}: 404 NotFound")
        managers = self._managers.setdefault(key, FieldManagers())
        part = {"status": body.get("status", {})} if subresource else {k: v for k, v in body.items() if k != "status"}
        check_conditions(body)
        desired = managers.applied(f"{field_manager}/{subresource or ''}", present or {}, _without_server_fields(part))
        stored = self._created(resource, key, desired) if present is None else self._changed(resource, key, desired)
        # Only the response to an apply has them here; nothing reads them elsewhere.
        stored["metadata"]["managedFields"] = managers.encode()
        return {"metadata": stored["metadata"]} if metadata_only else stored

    async def update(
        self,
        resource: Resource,
        name: str,
        body: JsonObject,
        *,
        namespace: str | None = None,
        field_manager: str | None = None,
    ) -> JsonObject:
        key = (resource.plural, namespace, name)
        present = self._objects.get(key)
        what = f"update {resource.path(name, namespace=namespace)}"
        # Also where there is none: the uid in the body is then a precondition that does not hold.
        if present is None or body["metadata"].get("resourceVersion") != present["metadata"]["resourceVersion"]:
            raise Conflict(f"{what}: 409 Conflict")
        self._managers[key].updated(field_manager or "update", present, body)
        return self._changed(resource, key, copy.deepcopy(body))

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        body: JsonObject,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> JsonObject:
        key = (resource.plural, namespace, name)
        present = self._present(resource, name, namespace, "patch")
        _check(present, body, f"patch {resource.path(name, namespace=namespace)}")
        part = {k: v for k, v in body.items() if (k == "status") == (subresource == "status")}
        desired = merged(present, _without_server_fields(part))
        self._managers[key].updated("patch", present, desired)
        return self._changed(resource, key, desired)

    async def delete(
        self, resource: Resource, name: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        present = self._present(resource, name, None, "delete")
        outdated = {"uid": uid, "resourceVersion": resource_version}.items()
        if any(value is not None and present["metadata"][field] != value for field, value in outdated):
            raise Conflict(f"delete {resource.path(name)}: 409 Conflict")
        key = (resource.plural, None, name)
        if not present["metadata"].get("finalizers"):
            self._removed(resource, key)
        elif "deletionTimestamp" not in present["metadata"]:
            metadata = present["metadata"]
            metadata["deletionTimestamp"] = encode_time(self._now())
            metadata["generation"] += 1
            self._store(resource, key, present, "MODIFIED")

    def _present(self, resource: Resource, name: str, namespace: str | None, verb: str) -> JsonObject:
        found = self._objects.get((resource.plural, namespace, name))
        if found is None:
            raise NotFound(f"{verb} {resource.path(name, namespace=namespace)}: 404 NotFound")
        return found

    def _created(self, resource: Resource, key: Key, desired: JsonObject) -> JsonObject:
        stored = copy.deepcopy(desired)
        stored["metadata"] |= {
            "name": key[2],
            "uid": f"uid-{self._version + 1}",
            "generation": 1,
            "creationTimestamp": encode_time(self._now()),
        }
        return self._store(resource, key, stored, "ADDED")

    def _changed(self, resource: Resource, key: Key, desired: JsonObject) -> JsonObject:
        present = self._objects[key]
        desired["metadata"] |= {
            name: present["metadata"][name] for name in SERVER_FIELDS if name in present["metadata"]
        }
        if desired == present:
            return copy.deepcopy(present)
        if _spec(desired) != _spec(present):
            desired["metadata"]["generation"] += 1
        if "deletionTimestamp" in desired["metadata"] and not desired["metadata"].get("finalizers"):
            self._objects[key] = desired
            return self._removed(resource, key)
        return self._store(resource, key, desired, "MODIFIED")

    def _removed(self, resource: Resource, key: Key) -> JsonObject:
        self._version += 1
        last = self._objects.pop(key)
        last["metadata"]["resourceVersion"] = str(self._version)
        del self._managers[key]
        self._notify(resource, WatchEvent("DELETED", last))
        return copy.deepcopy(last)

    def _store(self, resource: Resource, key: Key, desired: JsonObject, event: Any) -> JsonObject:
        self._version += 1
        desired["metadata"]["resourceVersion"] = str(self._version)
        self._objects[key] = desired
        self._notify(resource, WatchEvent(event, copy.deepcopy(desired)))
        return copy.deepcopy(desired)

    def _notify(self, resource: Resource, event: WatchEvent) -> None:
        for subscriber in self.subscribers:
            subscriber(resource, event)


def _check(present: JsonObject | None, body: JsonObject, what: str, *, status: bool = False) -> None:
    """The preconditions that a body's metadata carries; the uid is none for a write of the status."""
    expected = body.get("metadata", {})
    version, uid = expected.get("resourceVersion"), expected.get("uid")
    observed = present["metadata"] if present is not None else {}
    if version is not None and observed.get("resourceVersion") != version:
        raise Conflict(f"{what}: 409 Conflict: the resourceVersion is not {version}")
    if uid is not None and observed.get("uid") != uid and not status:
        if present is None:
            raise Conflict(f"{what}: 409 Conflict: the uid is not {uid}")
        raise Refused(f"{what}: 422 Invalid: the uid is not {uid}")


def _without_server_fields(body: JsonObject) -> JsonObject:
    if "metadata" not in body:
        return body
    metadata = {key: value for key, value in body["metadata"].items() if key not in SERVER_FIELDS}
    return body | {"metadata": metadata}


def _spec(raw: JsonObject) -> JsonObject:
    return {key: value for key, value in raw.items() if key not in ("metadata", "status")}


def matches(raw: JsonObject, label_selector: str | None) -> bool:
    """``a=b``, ``a in (b, c)`` and several of the first kind."""
    if label_selector is None:
        return True
    labels = raw["metadata"].get("labels", {})
    key, is_set, values = label_selector.partition(" in ")
    if is_set:
        return labels.get(key) in values.strip("()").split(",")
    return all(
        labels.get(key) == value for key, _, value in (each.partition("=") for each in label_selector.split(","))
    )
