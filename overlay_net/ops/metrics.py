"""Every metric of both modes, declared in one place.

Names that controller-runtime made common keep its meaning, so that existing dashboards work.
"""

from collections.abc import Callable
from contextlib import suppress
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
            self._leading = Gauge(
                "leader_election_master_status", "1 while this process leads.", ["name"], registry=registry
            )
            self._pool_addresses = Gauge(
                "overlay_net_pool_addresses", "Addresses of a pool.", ["pool", "state"], registry=registry
            )
            self.records_edited = Gauge(
                "overlay_net_ipam_records_edited", "Records in use that somebody changed by hand.", registry=registry
            )
            self._ipam_requests = Counter(
                "overlay_net_ipam_requests", "Calls to phpIPAM.", ["operation", "outcome"], registry=registry
            )
            self._ipam_seconds = Histogram(
                "overlay_net_ipam_request_duration_seconds",
                "Time of a call to phpIPAM.",
                ["operation"],
                buckets=_SECONDS,
                registry=registry,
            )
            self._ipam_logins = Counter(
                "overlay_net_ipam_logins", "Log-ins to phpIPAM.", ["outcome"], registry=registry
            )
            self._ipam_up = Gauge(
                "overlay_net_ipam_up", "0 while phpIPAM is not asked because it does not answer.", registry=registry
            )
            self._ipam_refused = Gauge(
                "overlay_net_ipam_credentials_refused", "1 while phpIPAM refuses our credentials.", registry=registry
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

    def leading(self, name: str, leads: bool) -> None:
        self._leading.labels(name).set(leads)

    def set_pool(self, name: str, used: int, free: int) -> None:
        self._pool_addresses.labels(name, "used").set(used)
        self._pool_addresses.labels(name, "free").set(free)

    def forget_pool(self, name: str) -> None:
        for state in ("used", "free"):
            with suppress(KeyError):
                self._pool_addresses.remove(name, state)

    def asked(self, operation: str, outcome: str, seconds: float) -> None:
        self._ipam_requests.labels(operation, outcome).inc()
        self._ipam_seconds.labels(operation).observe(seconds)

    def logged_in(self, outcome: str) -> None:
        self._ipam_logins.labels(outcome).inc()

    def watch_ipam(self, up: Callable[[], bool], refused: Callable[[], bool]) -> None:
        """Ask for the state of phpIPAM whenever metrics are read."""
        self._ipam_up.set_function(up)
        self._ipam_refused.set_function(refused)

    def reconciled(self, name: str, result: Literal["success", "requeue", "terminal", "error"], seconds: float) -> None:
        self._reconciles.labels(name, "requeue_after" if result == "requeue" else result).inc()
        self._reconcile_seconds.labels(name).observe(seconds)

    def requested(self, verb: str, resource: str, code: int | str, seconds: float) -> None:
        self._requests.labels(str(code), verb.upper()).inc()
        if verb != "watch":
            self._request_seconds.labels(verb.upper()).observe(seconds)
