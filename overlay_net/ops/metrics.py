"""Every metric of both modes, declared in one place.

Names that controller-runtime made common keep its meaning, so that existing dashboards work.
"""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from overlay_net import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One registry a process; ``mode`` is ``controller`` or ``agent``."""

    def __init__(self, mode: Literal["controller", "agent"]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        build = Gauge(
            "overlay_net_build_info", "Version and mode of this process.", ["version", "mode"], registry=registry
        )
        build.labels(__version__, mode).set(1)
        self._reconciles = Counter(
            "controller_runtime_reconcile", "Reconciliations.", ["controller", "result"], registry=registry
        )
        self._reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Time of one reconciliation.",
            ["controller"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._requests = Counter(
            "rest_client_requests", "Requests to the Kubernetes API.", ["code", "method"], registry=registry
        )
        self._request_seconds = Histogram(
            "rest_client_request_duration_seconds",
            "Time of a request to the Kubernetes API, watches excepted.",
            ["verb"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.synced = Gauge("overlay_net_synced", "1 once every watched kind was read completely.", registry=registry)
        if mode == "controller":
            self.pool_addresses = Gauge(
                "overlay_net_pool_addresses", "Addresses of a pool.", ["pool", "state"], registry=registry
            )
            self.nodes_without_address = Gauge(
                "overlay_net_nodes_without_address", "Nodes that wait for an overlay address.", registry=registry
            )
            self.audit_released = Counter(
                "overlay_net_audit_released", "Reservations without owner that the audit released.", registry=registry
            )
        else:
            self.routes = Gauge("overlay_net_routes", "Routes of this node.", ["state"], registry=registry)
            self.kernel_changes = Counter(
                "overlay_net_kernel_changes", "Changes made to the kernel.", ["kind"], registry=registry
            )
            self.configured = Gauge(
                "overlay_net_address_configured", "1 while the overlay address is in the kernel.", registry=registry
            )
            self.converge_seconds = Histogram(
                "overlay_net_converge_seconds",
                "Time from waking up to a kernel that is as it must be, when something had to change.",
                buckets=_SECONDS,
                registry=registry,
            )

    def reconciled(self, name: str, result: Literal["success", "requeue", "terminal", "error"], seconds: float) -> None:
        self._reconciles.labels(name, "requeue_after" if result == "requeue" else result).inc()
        self._reconcile_seconds.labels(name).observe(seconds)

    def requested(self, verb: str, resource: str, code: int | str, seconds: float) -> None:
        self._requests.labels(str(code), verb.upper()).inc()
        if verb != "watch":
            self._request_seconds.labels(verb.upper()).observe(seconds)
