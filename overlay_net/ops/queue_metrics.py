"""Metrics of work queues, named as in client-go; values of keys in progress are computed at each scrape."""

from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram


class QueueObserver(Protocol):
    def added(self) -> None: ...
    def taken(self, waited: float) -> None: ...
    def done(self, worked: float) -> None: ...
    def retried(self) -> None: ...


class Queue(Protocol):
    def __len__(self) -> int: ...
    def observe(self, observer: QueueObserver) -> None: ...
    def processing(self) -> list[float]:
        """Return the processing time so far, in seconds, of each key in progress."""
        ...


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """The metrics of all queues, with the label ``name``."""

    depth: Gauge
    adds: Counter
    queued: Histogram
    worked: Histogram
    retries: Counter
    unfinished: Gauge
    longest: Gauge

    def watch(self, name: str, queue: Queue) -> None:
        self.depth.labels(name).set_function(lambda: len(queue))
        self.unfinished.labels(name).set_function(lambda: sum(queue.processing()))
        self.longest.labels(name).set_function(lambda: max(queue.processing(), default=0.0))
        queue.observe(_Counting(self, name))


class _Counting:
    def __init__(self, metrics: QueueMetrics, name: str) -> None:
        self._adds = metrics.adds.labels(name)
        self._queued = metrics.queued.labels(name)
        self._worked = metrics.worked.labels(name)
        self._retries = metrics.retries.labels(name)

    def added(self) -> None:
        self._adds.inc()

    def taken(self, waited: float) -> None:
        self._queued.observe(waited)

    def done(self, worked: float) -> None:
        self._worked.observe(worked)

    def retried(self) -> None:
        self._retries.inc()
