"""The metrics of the controller. A standby has no values for pools, nodes and routes."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from prometheus_client import Gauge

from overlay_net.ops.metrics import Metrics
from overlay_net.runtime.loop_blocks import LoopBlocks


class ControllerMetrics(Metrics):
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("controller", clock)
        self._loop_active: Callable[[], None] = lambda: None
        self._longest_block = self._gauge(
            "overlay_net_event_loop_longest_block_seconds",
            "Longest time since the start in which one step kept the event loop from everything else: by the clock "
            "(wall), and how much of it this process was running (cpu). Seconds endanger the leases.",
            "clock",
        )
        self._leader = self._gauge("leader_election_master_status", "1 while this process is the leader.", "name")
        self._standby_release = self._gauge(
            "overlay_net_standby_release",
            "1 while another release manages the cluster, so that this one does nothing.",
        )
        self._pool_addresses = self._gauge(
            "overlay_net_pool_addresses", "Addresses of a pool by state: used, free.", "pool", "state"
        )
        self._pool_conflicts = self._gauge(
            "overlay_net_pool_inconsistent",
            "1 while the condition Consistent of a pool is False, by its reason.",
            "pool",
            "reason",
        )
        self._pool_conflict_reasons: dict[str, str] = {}
        self._nodes = self._gauge(
            "overlay_net_nodes",
            "Nodes by state: ready, not_ready (has an address, but its agent has not reported everything in place), "
            "without_address, gone (the Node is deleted, its address not released yet).",
            "state",
        )
        self._waiting_since = self._gauge(
            "overlay_net_node_without_address_since_timestamp_seconds",
            "Time since which the longest waiting Node has no address; 0: no Node is waiting.",
        )
        self._routes = self._gauge(
            "overlay_net_cluster_routes",
            "Routes of all nodes, as their agents report them, by state: desired, programmed, failed.",
            "state",
        )
        self._failed_reservations = self._gauge(
            "overlay_net_failed_reservations",
            "Nodes that have an address although the condition Reserved is False, by its reason.",
            "reason",
        )
        self._outdated_nodes = self._gauge(
            "overlay_net_outdated_nodes",
            "Nodes that have an address although the condition UpToDate is False, by its reason.",
            "reason",
        )
        self._static_routes = self._gauge(
            "overlay_net_static_routes",
            "StaticRoutes by state: ready, pending, refused, conflict, rolled_back, rollout_stopped, failing.",
            "state",
        )
        self._address_conflicts = self._gauge(
            "overlay_net_duplicate_addresses",
            "Nodes whose agent reports that another host uses the assigned address.",
        )
        self.silent_agents = self._gauge(
            "overlay_net_silent_agents",
            "Nodes that are Ready=Unknown because their agent has not renewed its Lease for agent_stale_after.",
        )
        self._ipam_requests = self._counter(
            "overlay_net_ipam_requests_total",
            "Operations of an IPAM by outcome: ok, exhausted, taken, unusable, conflict, unavailable, refused, error.",
            "backend",
            "operation",
            "outcome",
        )
        self._ipam_seconds = self._histogram(
            "overlay_net_ipam_request_duration_seconds", "Duration of an IPAM operation.", "backend", "operation"
        )
        self._ipam_up = self._gauge(
            "overlay_net_ipam_up", "0 while the IPAM is unreachable, or fails for every subnet.", "backend"
        )
        self._ipam_refused = self._gauge(
            "overlay_net_ipam_credentials_refused", "1 while the IPAM rejects the credentials.", "backend"
        )
        self._phpipam_requests = self._counter(
            "overlay_net_phpipam_requests_total",
            "HTTP requests to phpIPAM by outcome: ok, nothingfound (an empty list), notfound, conflict, exhausted, "
            "refused, unavailable, error.",
            "operation",
            "outcome",
        )
        self._phpipam_seconds = self._histogram(
            "overlay_net_phpipam_request_duration_seconds", "Duration of an HTTP request to phpIPAM.", "operation"
        )
        self._phpipam_logins = self._counter(
            "overlay_net_phpipam_logins_total", "Logins to phpIPAM by outcome: ok, refused, error.", "outcome"
        )
        self.records_edited = self._gauge(
            "overlay_net_ipam_records_edited", "IPAM records in use that were edited by hand."
        )
        self.releases_withheld = self._gauge(
            "overlay_net_ipam_releases_withheld",
            "Orphaned IPAM records that are not released, because another cluster has the same cluster ID.",
        )
        self.audit_released = self._counter(
            "overlay_net_audit_released_total", "Reservations without a node that the audit released."
        )

        self._protection_sources = self._gauge(
            "overlay_net_protection_source_up", "0 while a source of protected subnets cannot be read.", "source"
        )

    def watch_loop(self, blocks: LoopBlocks) -> None:
        """Measure the work that follows each answer of the API server and each start of a reconciliation."""
        self._loop_active = blocks.active
        self._longest_block.labels("wall").set_function(lambda: blocks.longest)
        self._longest_block.labels("cpu").set_function(lambda: blocks.longest_cpu)

    def record_contact(self) -> None:
        super().record_contact()
        self._loop_active()

    def reconcile_started(self) -> None:
        self._loop_active()

    def set_protection_source(self, source: str, *, up: bool) -> None:
        self._protection_sources.labels(source).set(up)

    def set_leader(self, name: str, is_leader: bool) -> None:
        self._leader.labels(name).set(is_leader)

    def set_standby_release(self, is_standby: bool) -> None:
        self._standby_release.set(is_standby)

    def set_pool(self, name: str, used: int, free: int) -> None:
        self._pool_addresses.labels(name, "used").set(used)
        self._pool_addresses.labels(name, "free").set(free)

    def set_pool_conflict(self, name: str, reason: str) -> None:
        """``reason`` is that of Consistent=False; empty if the pool is consistent."""
        before = self._pool_conflict_reasons.pop(name, "")
        if before:
            self._pool_conflicts.remove(name, before)
        if reason:
            self._pool_conflict_reasons[name] = reason
            self._pool_conflicts.labels(name, reason).set(1)

    def forget_pool(self, name: str) -> None:
        self.set_pool_conflict(name, "")
        for state in ("used", "free"):
            with suppress(KeyError):
                self._pool_addresses.remove(name, state)

    def set_cluster(
        self, nodes: Mapping[str, int], routes: Mapping[str, int], address_conflicts: int, waiting_since: float
    ) -> None:
        """``waiting_since`` is in seconds since the epoch; 0 if no node is waiting."""
        for gauge, counts in ((self._nodes, nodes), (self._routes, routes)):
            for state, count in counts.items():
                gauge.labels(state).set(count)
        self._address_conflicts.set(address_conflicts)
        self._waiting_since.set(waiting_since)

    def set_failed_reservations(self, counts: Mapping[str, int]) -> None:
        """``counts`` has the number of nodes by reason."""
        _replace(self._failed_reservations, counts)

    def set_outdated_nodes(self, counts: Mapping[str, int]) -> None:
        """``counts`` has the number of nodes by reason."""
        _replace(self._outdated_nodes, counts)

    def set_static_routes(self, counts: Mapping[str, int]) -> None:
        """``counts`` has every state."""
        for state, count in counts.items():
            self._static_routes.labels(state).set(count)

    def observe_ipam_request(self, backend: str, operation: str, outcome: str, seconds: float) -> None:
        self._ipam_requests.labels(backend, operation, outcome).inc()
        self._ipam_seconds.labels(backend, operation).observe(seconds)

    def watch_ipam(self, backend: str, up: Callable[[], bool], refused: Callable[[], bool]) -> None:
        """Call ``up`` and ``refused`` whenever the metrics are scraped."""
        self._ipam_up.labels(backend).set_function(up)
        self._ipam_refused.labels(backend).set_function(refused)

    def observe_phpipam_request(self, operation: str, outcome: str, seconds: float) -> None:
        self._phpipam_requests.labels(operation, outcome).inc()
        self._phpipam_seconds.labels(operation).observe(seconds)

    def observe_phpipam_login(self, outcome: str) -> None:
        self._phpipam_logins.labels(outcome).inc()


def _replace(gauge: Gauge, counts: Mapping[str, int]) -> None:
    gauge.clear()
    for reason, count in counts.items():
        gauge.labels(reason).set(count)
