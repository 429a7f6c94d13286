"""Kubernetes events (events.k8s.io/v1) on the objects that people look at; the same event again only counts up.

An event is a courtesy: failing to write one never disturbs the work it speaks of.
"""

import asyncio
import logging
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, OverlayNetError
from overlay_net.model.names import EVENTS, Resource
from overlay_net.model.parse import integer_of, object_of

log = logging.getLogger(__name__)

# Events on cluster-scoped objects live in the namespace "default" (events.k8s.io validation).
NAMESPACE = "default"
QUEUE_LENGTH = 1000


class EventApi(Protocol):
    async def create(self, resource: Resource, body: JsonObject, *, namespace: str | None = None) -> JsonObject: ...
    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> JsonObject: ...
    async def merge_patch(
        self, resource: Resource, name: str, body: JsonObject, *, namespace: str | None = None
    ) -> JsonObject: ...


class EventRecorder:
    """Takes events without waiting and writes them from ``run``."""

    def __init__(self, api: EventApi, controller: str, instance: str) -> None:
        self._api = api
        self._controller = controller
        self._instance = instance
        self._queue: asyncio.Queue[JsonObject] = asyncio.Queue(QUEUE_LENGTH)

    def emit(self, resource: Resource, name: str, uid: str, reason: str, message: str, *, warning: bool) -> None:
        """Queue one event; dropped with a log line when far too many are waiting."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        digest = sha256(f"{uid}/{reason}/{message}".encode()).hexdigest()[:16]
        body: JsonObject = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{name[:200]}.{digest}", "namespace": NAMESPACE},
            "eventTime": now,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": "Reconcile",
            "note": message[:1024],
            "reportingController": self._controller,
            "reportingInstance": self._instance[:128],
            "regarding": {"apiVersion": resource.api_version, "kind": resource.kind, "name": name, "uid": uid},
        }
        try:
            self._queue.put_nowait(body)
        except asyncio.QueueFull:
            log.warning("event dropped, too many are waiting", extra={"object": name, "reason": reason})

    async def run(self) -> None:
        while True:
            body = await self._queue.get()
            try:
                await self._write(body)
            except OverlayNetError as error:
                log.debug("event not written: %s", error)

    async def _write(self, body: JsonObject) -> None:
        try:
            await self._api.create(EVENTS, body, namespace=NAMESPACE)
        except AlreadyExists:
            name = body["metadata"]["name"]
            present = await self._api.get(EVENTS, name, namespace=NAMESPACE)
            count = integer_of(object_of(present, "series").get("count"), 1) + 1
            series = {"count": count, "lastObservedTime": body["eventTime"]}
            await self._api.merge_patch(EVENTS, name, {"series": series}, namespace=NAMESPACE)
