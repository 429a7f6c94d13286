"""Kubernetes events (events.k8s.io/v1) on the objects that people look at; the same event again only counts up.

An event is a courtesy: failing to write one never disturbs the work it speaks of.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, OverlayNetError
from overlay_net.model.names import EVENTS, Resource
from overlay_net.model.parse import find_object, parse_int

log = logging.getLogger(__name__)

# Events on cluster-scoped objects live in the namespace "default" (events.k8s.io validation).
NAMESPACE = "default"
QUEUE_LENGTH = 5000
"""Events that wait to be written, at the most: one for each node of a large cluster when something happens to all."""

REST = 10.0
"""Seconds after an event was written in which the same one is gathered, and written as one more step of its series."""


@dataclass(slots=True)
class _Waiting:
    body: JsonObject
    count: int
    last: str
    """When it happened last."""


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
        # Bounded by what waits.
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: dict[str, _Waiting] = {}
        self._resting: set[str] = set()

    def emit(self, resource: Resource, name: str, uid: str, reason: str, message: str, *, warning: bool) -> None:
        """Queue one event, or count it to the same one that waits; dropped, with a log line, when far too many do."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        digest = sha256(f"{uid}/{reason}/{message}".encode()).hexdigest()[:16]
        event = f"{name[:200]}.{digest}"
        same = self._waiting.get(event)
        if same is not None:
            same.count += 1
            same.last = now
            return
        if len(self._waiting) >= QUEUE_LENGTH:
            log.warning("event dropped, too many are waiting", extra={"object": name, "reason": reason})
            return
        body = EVENTS.manifest(
            event,
            namespace=NAMESPACE,
            eventTime=now,
            type="Warning" if warning else "Normal",
            reason=reason,
            action="Reconcile",
            note=message[:1024],
            reportingController=self._controller,
            reportingInstance=self._instance[:128],
            regarding={"apiVersion": resource.api_version, "kind": resource.kind, "name": name, "uid": uid},
        )
        self._waiting[event] = _Waiting(body, 1, now)
        if event not in self._resting:
            self._queue.put_nowait(event)

    async def run(self) -> None:
        while True:
            event = await self._queue.get()
            waiting = self._waiting.pop(event)
            self._resting.add(event)
            asyncio.get_running_loop().call_later(REST, self._rested, event)
            try:
                await self._write(event, waiting)
            except OverlayNetError as error:
                log.debug("event not written: %s", error)

    def _rested(self, event: str) -> None:
        self._resting.discard(event)
        if event in self._waiting:
            self._queue.put_nowait(event)

    async def _write(self, event: str, waiting: _Waiting) -> None:
        series = {"count": waiting.count, "lastObservedTime": waiting.last}
        try:
            body = waiting.body | ({"series": series} if waiting.count > 1 else {})
            await self._api.create(EVENTS, body, namespace=NAMESPACE)
        except AlreadyExists:
            present = await self._api.get(EVENTS, event, namespace=NAMESPACE)
            series["count"] = parse_int(find_object(present, "series").get("count"), 1) + waiting.count
            await self._api.merge_patch(EVENTS, event, {"series": series}, namespace=NAMESPACE)
