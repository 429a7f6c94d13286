"""Every metric of both modes, declared here and nowhere else; lab.metrics_reference writes docs/metrics.md from it.

Names that controller-runtime and client-go made common keep their meaning, so that existing dashboards work. A label
has few values: never a route, a node's address or a name that users choose freely, but for the names of pools.
"""

import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from overlay_net import __version__
from overlay_net.ops.queue_metrics import Queue, QueueMetrics

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_METHODS = {"create": "POST", "update": "PUT", "apply": "PATCH", "patch": "PATCH", "delete": "DELETE"}
"""HTTP method of each verb of the Kubernetes API that changes something; every other one is a GET."""

Result: TypeAlias = Literal["success", "requeue", "terminal", "error"]
MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)


@dataclass(frozen=True, slots=True)
class MetricDeclaration:
    """A metric as it is exposed."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Metrics:
    """What both modes have; one registry a process."""

    def __init__(self, mode: Literal["controller", "agent"]) -> None:
        self.registry = CollectorRegistry()
        self.declared: list[MetricDeclaration] = []
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = self._gauge("overlay_net_build_info", "Always 1: what runs.", "mode", "version", "python")
        build.labels(mode, __version__, platform.python_version()).set(1)
        self.synced = self._gauge("overlay_net_synced", "1 once every watched kind was read completely.")
        self._last_sync = self._gauge(
            "overlay_net_last_sync_timestamp_seconds",
            "When all was last compared (agent: the kernel with the node's object, every resync_interval; controller: "
            "the IPAM with the cluster, every audit_interval), corrected and reported; 0: not yet.",
        )
        self._reconciles = self._counter(
            "controller_runtime_reconcile_total",
            "Reconciliations by result: success, requeue_after, error, terminal_error.",
            "controller",
            "result",
        )
        self._reconcile_errors = self._counter(
            "controller_runtime_reconcile_errors_total", "Reconciliations that failed.", "controller"
        )
        self._reconcile_seconds = self._histogram(
            "controller_runtime_reconcile_time_seconds", "Time of one reconciliation.", "controller"
        )
        self._active = self._gauge(
            "controller_runtime_active_workers", "Reconciliations that are under way.", "controller"
        )
        self._requests = self._counter(
            "rest_client_requests_total",
            "Requests to the Kubernetes API; code is the HTTP status, or error without an answer.",
            "code",
            "method",
            "host",
        )
        self._request_seconds = self._histogram(
            "rest_client_request_duration_seconds", "Time of such a request, watches excepted.", "verb", "host"
        )
        self._queues = QueueMetrics(
            depth=self._gauge("workqueue_depth", "Keys that are ready to be worked on.", "name"),
            adds=self._counter("workqueue_adds_total", "Keys that became ready.", "name"),
            queued=self._histogram("workqueue_queue_duration_seconds", "How long a key was ready.", "name"),
            worked=self._histogram("workqueue_work_duration_seconds", "How long a key was worked on.", "name"),
            retries=self._counter("workqueue_retries_total", "Keys that were put back for a retry.", "name"),
            unfinished=self._gauge(
                "workqueue_unfinished_work_seconds", "Sum of how long the keys under way were worked on so far.", "name"
            ),
            longest=self._gauge(
                "workqueue_longest_running_processor_seconds",
                "The longest of them; it grows for one that hangs.",
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
        self._queues.watch(name, queue)

    def reconcile_started(self, name: str) -> None:
        self._active.labels(name).inc()

    def reconcile_finished(self, name: str) -> None:
        self._active.labels(name).dec()

    def reconciled(self, name: str, result: Result, seconds: float) -> None:
        shown = {"requeue": "requeue_after", "terminal": "terminal_error"}.get(result, result)
        self._reconciles.labels(name, shown).inc()
        self._reconcile_seconds.labels(name).observe(seconds)
        # So that the series is there before the first failure.
        self._reconcile_errors.labels(name).inc(result in ("error", "terminal"))

    def requested(self, verb: str, resource: str, code: int | str, seconds: float, host: str) -> None:
        self._requests.labels(str(code), _METHODS.get(verb, "GET"), host).inc()
        if verb != "watch":
            self._request_seconds.labels(verb.upper(), host).observe(seconds)

    def record_sync(self) -> None:
        """All was compared just now, and is as it must be."""
        self._last_sync.set(time.time())


class ControllerMetrics(Metrics):
    """Of the controller; one that stands by shows only what it knows: nothing of pools, nodes and routes."""

    def __init__(self) -> None:
        super().__init__("controller")
        self._leads = self._gauge("leader_election_master_status", "1 while this process leads.", "name")
        self._pool_addresses = self._gauge(
            "overlay_net_pool_addresses", "Addresses of a pool: used, free.", "pool", "state"
        )
        self._nodes = self._gauge(
            "overlay_net_nodes",
            "Nodes by state: ready, not_ready (address, but the agent has not reported all in place), without_address, "
            "gone (the Node is deleted, its address not given back yet).",
            "state",
        )
        self._waiting_since = self._gauge(
            "overlay_net_node_without_address_since_timestamp_seconds",
            "Since when the Node that waits longest has no address; 0: none waits.",
        )
        self._routes = self._gauge(
            "overlay_net_cluster_routes", "Routes of all nodes together: desired, programmed, failed.", "state"
        )
        self._conflicts = self._gauge(
            "overlay_net_duplicate_addresses",
            "Nodes whose agent says that another host uses the assigned address.",
        )
        self._ipam_requests = self._counter(
            "overlay_net_ipam_requests_total",
            "What an IPAM was asked, by outcome: ok, exhausted, taken, unusable, conflict, unavailable, refused.",
            "backend",
            "operation",
            "outcome",
        )
        self._ipam_seconds = self._histogram(
            "overlay_net_ipam_request_duration_seconds", "Time of such a question.", "backend", "operation"
        )
        self._ipam_up = self._gauge("overlay_net_ipam_up", "0 while the IPAM does not answer.", "backend")
        self._ipam_refused = self._gauge(
            "overlay_net_ipam_credentials_refused", "1 while the IPAM refuses our credentials.", "backend"
        )
        self._phpipam_requests = self._counter(
            "overlay_net_phpipam_requests_total", "HTTP requests to phpIPAM.", "operation", "outcome"
        )
        self._phpipam_seconds = self._histogram(
            "overlay_net_phpipam_request_duration_seconds", "Time of such a request.", "operation"
        )
        self._phpipam_logins = self._counter("overlay_net_phpipam_logins_total", "Log-ins to phpIPAM.", "outcome")
        self.records_edited = self._gauge(
            "overlay_net_ipam_records_edited", "Records in use that somebody changed by hand."
        )
        self.audit_released = self._counter(
            "overlay_net_audit_released_total", "Reservations without owner that the audit released."
        )

    def set_leader(self, name: str, is_leader: bool) -> None:
        self._leads.labels(name).set(is_leader)

    def set_pool(self, name: str, used: int, free: int) -> None:
        self._pool_addresses.labels(name, "used").set(used)
        self._pool_addresses.labels(name, "free").set(free)

    def forget_pool(self, name: str) -> None:
        for state in ("used", "free"):
            with suppress(KeyError):
                self._pool_addresses.remove(name, state)

    def set_cluster(
        self, nodes: Mapping[str, int], routes: Mapping[str, int], duplicates: int, waiting_since: float
    ) -> None:
        """``waiting_since``: seconds since the epoch, 0 where no node waits."""
        for gauge, counts in ((self._nodes, nodes), (self._routes, routes)):
            for state, count in counts.items():
                gauge.labels(state).set(count)
        self._conflicts.set(duplicates)
        self._waiting_since.set(waiting_since)

    def observe_ipam_request(self, backend: str, operation: str, outcome: str, seconds: float) -> None:
        self._ipam_requests.labels(backend, operation, outcome).inc()
        self._ipam_seconds.labels(backend, operation).observe(seconds)

    def watch_ipam(self, backend: str, up: Callable[[], bool], refused: Callable[[], bool]) -> None:
        """Ask for the state of an IPAM whenever metrics are read."""
        self._ipam_up.labels(backend).set_function(up)
        self._ipam_refused.labels(backend).set_function(refused)

    def observe_phpipam_request(self, operation: str, outcome: str, seconds: float) -> None:
        self._phpipam_requests.labels(operation, outcome).inc()
        self._phpipam_seconds.labels(operation).observe(seconds)

    def observe_phpipam_login(self, outcome: str) -> None:
        self._phpipam_logins.labels(outcome).inc()


class AgentMetrics(Metrics):
    """Of one node's agent."""

    def __init__(self) -> None:
        super().__init__("agent")
        self.configured = self._gauge("overlay_net_address_configured", "1 while the overlay address is in the kernel.")
        self._routes = self._gauge("overlay_net_routes", "Routes of this node: desired, programmed, failed.", "state")
        self._kernel_changes = self._counter(
            "overlay_net_kernel_changes_total", "Changes made to the kernel, by kind.", "kind"
        )
        self._repairs = self._counter(
            "overlay_net_drift_repairs_total",
            "Those of them that undid what somebody else had changed: nothing else was wished than before.",
            "kind",
        )
        self._duplicate = self._gauge(
            "overlay_net_duplicate_address", "1 while another host uses this node's overlay address."
        )
        self._gateway_up = self._gauge(
            "overlay_net_gateway_up", "1 while the gateway answers this node's probes.", "gateway"
        )
        self._gateways: frozenset[str] = frozenset()
        self.converge_seconds = self._histogram(
            "overlay_net_converge_seconds",
            "Time from waking up to a kernel that is as it must be, when something had to change.",
        )

    def set_routes(self, desired: int, programmed: int, failed: int) -> None:
        for state, count in (("desired", desired), ("programmed", programmed), ("failed", failed)):
            self._routes.labels(state).set(count)

    def changed(self, kinds: Mapping[str, int]) -> None:
        """The kernel, so often by changes of each kind."""
        for kind, count in kinds.items():
            self._kernel_changes.labels(kind).inc(count)

    def repaired(self, kinds: Mapping[str, int]) -> None:
        """Somebody else's changes were undone, so often by changes of each kind."""
        for kind, count in kinds.items():
            self._repairs.labels(kind).inc(count)

    def set_probe_results(self, duplicate: bool, gateways: Mapping[str, bool]) -> None:
        """``gateways``: those that are probed now, and whether each answers."""
        self._duplicate.set(duplicate)
        for gateway, up in gateways.items():
            self._gateway_up.labels(gateway).set(up)
        for gone in self._gateways - gateways.keys():
            self._gateway_up.remove(gone)
        self._gateways = frozenset(gateways)
