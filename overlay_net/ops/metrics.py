"""Metrics of both modes, and the base class that declares them; lab.reference.metrics writes docs/metrics.md from it.

Metrics known from controller-runtime and client-go keep their names and meaning, so that existing dashboards work.
Labels have few values: no routes, no node addresses and no user-chosen names except those of pools; an agent has a
value for each gateway that it probes.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from overlay_net import __version__
from overlay_net.ops.queue_metrics import Queue, QueueMetrics
from overlay_net.runtime.worker import Result

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

CONTACT_LIMIT = 180.0
"""Seconds without an answer after which contact with the API server counts as lost; a silent watch ends after 150."""

_METHODS = {"create": "POST", "update": "PUT", "apply": "PATCH", "patch": "PATCH", "delete": "DELETE"}
"""HTTP methods of the Kubernetes API verbs; those not listed are GET."""


@dataclass(frozen=True, slots=True)
class MetricDeclaration:
    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class Metrics:
    """The metrics of one process, with their registry."""

    def __init__(self, mode: Literal["controller", "agent"], clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds."""
        self._clock = clock
        self._contact_at = clock()
        """When the API server last answered, or when this process started."""
        self.registry = CollectorRegistry()
        self.declared: list[MetricDeclaration] = []
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = self._gauge(
            "overlay_net_build_info", "Always 1; labels of the running process.", "mode", "version", "python"
        )
        build.labels(mode, __version__, platform.python_version()).set(1)
        self.synced = self._gauge("overlay_net_synced", "1 once all watched kinds have been listed.")
        self._last_sync = self._gauge(
            "overlay_net_last_sync_timestamp_seconds",
            "Time of the last successful full comparison: of the kernel with the NodeOverlayIp, every resync_interval "
            "(agent), or of the IPAM with the cluster, every audit_interval (controller); 0: none yet. Without an "
            "answer from the API server for three minutes, no comparison counts.",
        )
        self._last_contact = self._gauge(
            "overlay_net_last_api_contact_timestamp_seconds",
            "Time of the last answer from the API server: a response other than 5xx, or an event of a watch, which "
            "sends one about once a minute; 0: none yet.",
        )
        self._reconciles = self._counter(
            "controller_runtime_reconcile_total",
            "Reconciliations by result: success, requeue_after, error.",
            "controller",
            "result",
        )
        self._reconcile_errors = self._counter(
            "controller_runtime_reconcile_errors_total", "Failed reconciliations.", "controller"
        )
        self._reconcile_seconds = self._histogram(
            "controller_runtime_reconcile_time_seconds", "Duration of a reconciliation.", "controller"
        )
        self._active = self._gauge("controller_runtime_active_workers", "Reconciliations in progress.", "controller")
        self._requests = self._counter(
            "rest_client_requests_total",
            "Requests to the Kubernetes API; code is the HTTP status, or error if there was no response.",
            "code",
            "method",
            "host",
        )
        self._request_seconds = self._histogram(
            "rest_client_request_duration_seconds",
            "Duration of a request to the Kubernetes API, except watches.",
            "verb",
            "host",
        )
        self._queues = QueueMetrics(
            depth=self._gauge("workqueue_depth", "Keys in the queue, ready to be processed.", "name"),
            adds=self._counter("workqueue_adds_total", "Keys added to the queue.", "name"),
            queued=self._histogram("workqueue_queue_duration_seconds", "Time that a key was in the queue.", "name"),
            worked=self._histogram("workqueue_work_duration_seconds", "Time to process a key.", "name"),
            retries=self._counter("workqueue_retries_total", "Keys added again for a retry.", "name"),
            unfinished=self._gauge(
                "workqueue_unfinished_work_seconds", "Sum of the processing times so far of keys in progress.", "name"
            ),
            longest=self._gauge(
                "workqueue_longest_running_processor_seconds",
                "Longest processing time so far of a key in progress; keeps growing if one hangs.",
                "name",
            ),
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.declared.append(MetricDeclaration(name, "gauge", labels, text))
        return Gauge(name, text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.declared.append(MetricDeclaration(name, "counter", labels, text))
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        self.declared.append(MetricDeclaration(name, "histogram", labels, text))
        return Histogram(name, text, labels, buckets=_SECONDS, registry=self.registry)

    def watch_queue(self, name: str, queue: Queue) -> None:
        """Measure a queue and the reconciliations of its keys."""
        self._queues.watch(name, queue)
        self._active.labels(name).set_function(lambda: len(queue.processing()))

    def reconcile_started(self) -> None:
        """Override it to follow the start of each reconciliation."""

    def observe_reconcile(self, name: str, result: Result, seconds: float) -> None:
        self._reconciles.labels(name, "requeue_after" if result == "requeue" else result).inc()
        self._reconcile_seconds.labels(name).observe(seconds)
        # Also incremented by 0, so that the series exists before the first failure.
        self._reconcile_errors.labels(name).inc(result == "error")

    def observe_request(self, verb: str, resource: str, code: int | str, seconds: float, host: str) -> None:
        self._requests.labels(str(code), _METHODS.get(verb, "GET"), host).inc()
        if verb != "watch":
            self._request_seconds.labels(verb.upper(), host).observe(seconds)

    def record_contact(self) -> None:
        """Record that the API server has answered."""
        self._contact_at = self._clock()
        self._last_contact.set(time.time())

    def contact_problem(self) -> str:
        """Return why the process must not claim contact with the API server, or an empty string."""
        if self._clock() - self._contact_at < CONTACT_LIMIT:
            return ""
        return f"no answer from the API server for {CONTACT_LIMIT:g} s"

    def record_sync(self) -> None:
        """Record that a full comparison found everything in place, unless the desired state may be outdated."""
        if not self.contact_problem():
            self._last_sync.set(time.time())
