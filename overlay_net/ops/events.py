"""Records Kubernetes events (events.k8s.io/v1); repeated events are counted as a series.

Events are best effort: a failure to write one is only logged.
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
"""Maximum number of events waiting to be written: enough for one per node of a large cluster."""

SERIES_INTERVAL = 10.0
"""Seconds between two writes of the same event; repetitions in between are counted and written together."""


@dataclass(slots=True)
class _Waiting:
    body: JsonObject
    count: int
    last: str
    """Time of the last repetition."""


class EventApi(Protocol):
    async def create(self, resource: Resource, body: JsonObject, *, namespace: str | None = None) -> JsonObject: ...
    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> JsonObject: ...
    async def merge_patch(
        self, resource: Resource, name: str, body: JsonObject, *, namespace: str | None = None
    ) -> JsonObject: ...


class EventRecorder:
    """``emit`` queues an event without blocking; ``run`` writes the queued events."""

    def __init__(self, api: EventApi, controller: str, instance: str) -> None:
        self._api = api
        self._controller = controller
        self._instance = instance
        # Bounded by the limit of _waiting.
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: dict[str, _Waiting] = {}
        self._written: set[str] = set()

    def emit(self, resource: Resource, name: str, uid: str, reason: str, message: str, *, warning: bool) -> None:
        """Queue an event, or count it if it is already queued. If the queue is full, it is dropped with a warning."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        digest = sha256(f"{uid}/{reason}/{message}".encode()).hexdigest()[:16]
        event = f"{name[:200]}.{digest}"
        queued = self._waiting.get(event)
        if queued is not None:
            queued.count += 1
            queued.last = now
            return
        if len(self._waiting) >= QUEUE_LENGTH:
            log.warning("event dropped, queue is full", extra={"object": name, "reason": reason})
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
        if event not in self._written:
            self._queue.put_nowait(event)

    async def run(self) -> None:
        while True:
            event = await self._queue.get()
            waiting = self._waiting.pop(event)
            self._written.add(event)
            asyncio.get_running_loop().call_later(SERIES_INTERVAL, self._interval_ended, event)
            try:
                await self._write(event, waiting)
            except OverlayNetError as error:
                log.debug("event not written", extra={"event": event, "error": str(error)})

    def _interval_ended(self, event: str) -> None:
        self._written.discard(event)
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
