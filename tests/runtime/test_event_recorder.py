"""The event recorder in virtual time: repeated events become a series with few writes."""

import asyncio
from typing import Any

from overlay_net.model.errors import AlreadyExists
from overlay_net.model.names import NODE_OVERLAY_IPS, Resource
from overlay_net.ops.events import QUEUE_LENGTH, SERIES_INTERVAL, EventRecorder
from tests.runtime.conftest import Run


class Api:
    """Stores events and counts the writes."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.writes = 0

    async def create(self, _: Resource, body: dict[str, Any], *, namespace: str | None = None) -> dict[str, Any]:
        name = body["metadata"]["name"]
        if name in self.events:
            raise AlreadyExists(name)
        self.writes += 1
        self.events[name] = body
        return body

    async def get(self, _: Resource, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        return self.events[name]

    async def merge_patch(
        self, _: Resource, name: str, body: dict[str, Any], *, namespace: str | None = None
    ) -> dict[str, Any]:
        self.writes += 1
        self.events[name] |= body
        return self.events[name]

    def counts(self) -> dict[str, int]:
        return {each["note"]: each.get("series", {}).get("count", 1) for each in self.events.values()}


def emit(recorder: EventRecorder, message: str, node: str = "n1") -> None:
    recorder.emit(NODE_OVERLAY_IPS, node, f"uid-{node}", "GatewayDown", message, warning=True)


def test_repeated_events_are_counted_and_written_once_per_interval(virtual_time: Run) -> None:
    api = Api()
    recorder = EventRecorder(api, "overlay-net-controller", "here")

    async def main() -> None:
        task = asyncio.create_task(recorder.run())
        emit(recorder, "another event")
        for _ in range(600):
            emit(recorder, "flapping")
            await asyncio.sleep(0.1)
        await asyncio.sleep(SERIES_INTERVAL)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time(main())
    assert api.counts() == {"another event": 1, "flapping": 600}
    assert api.writes <= 2 + 60 / SERIES_INTERVAL + 1


def test_first_occurrences_are_written_at_once(virtual_time: Run) -> None:
    api = Api()
    recorder = EventRecorder(api, "overlay-net-controller", "here")

    async def main() -> None:
        task = asyncio.create_task(recorder.run())
        for number in range(50):
            emit(recorder, "down", f"n{number}")
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time(main())
    assert len(api.events) == 50


def test_the_queue_is_bounded(virtual_time: Run) -> None:
    api = Api()
    recorder = EventRecorder(api, "overlay-net-controller", "here")

    async def main() -> None:
        for number in range(QUEUE_LENGTH + 10):
            emit(recorder, "down", f"n{number}")
        task = asyncio.create_task(recorder.run())
        await asyncio.sleep(SERIES_INTERVAL)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time(main())
    assert len(api.events) == QUEUE_LENGTH
