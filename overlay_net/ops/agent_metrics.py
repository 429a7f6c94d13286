"""The metrics of the agent."""

import time
from collections.abc import Callable, Mapping

from overlay_net.ops.metrics import Metrics


class AgentMetrics(Metrics):
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("agent", clock)
        self.configured = self._gauge(
            "overlay_net_address_configured", "1 while the overlay address is set in the kernel."
        )
        self._routes = self._gauge(
            "overlay_net_routes", "Routes of this node by state: desired, programmed, failed.", "state"
        )
        self._kernel_changes = self._counter(
            "overlay_net_kernel_changes_total",
            "Changes requested of the kernel, also those that it refused, by kind, such as AddRoute.",
            "kind",
        )
        self._repairs = self._counter(
            "overlay_net_drift_repairs_total",
            "Changes to the kernel that reverted external drift, by the same kinds.",
            "kind",
        )
        self._address_conflict = self._gauge(
            "overlay_net_duplicate_address", "1 while another host uses the overlay address of this node."
        )
        self.mac_conflict = self._gauge(
            "overlay_net_duplicate_mac", "1 while another host has the MAC address of the overlay link."
        )
        self._gateway_up = self._gauge(
            "overlay_net_gateway_up",
            "1 while this node can use the gateway: it answers, and a link to it can carry traffic.",
            "gateway",
        )
        self._dead_routes = self._gauge(
            "overlay_net_gateway_dead_routes",
            "Routes of this node through the gateway that have no other gateway that can be used; 0 while it can.",
            "gateway",
        )
        self._gateways: frozenset[str] = frozenset()
        self.checkpoint_stored = self._gauge(
            "overlay_net_checkpoint_stored",
            "0 while the checkpoint of this node cannot be read or written, or its disk does not answer.",
        )
        self.routes_unknown = self._gauge(
            "overlay_net_routes_unknown",
            "1 while a slice of a route set of this node is missing or cannot be read, so that no route is removed.",
        )
        self.converge_seconds = self._histogram(
            "overlay_net_converge_seconds",
            "Time until the kernel has the desired state, after a wake-up that changed it.",
        )

    def set_routes(self, desired: int, programmed: int, failed: int) -> None:
        for state, count in (("desired", desired), ("programmed", programmed), ("failed", failed)):
            self._routes.labels(state).set(count)

    def count_changes(self, kinds: Mapping[str, int]) -> None:
        """Count kernel changes by kind."""
        for kind, count in kinds.items():
            self._kernel_changes.labels(kind).inc(count)

    def count_repairs(self, kinds: Mapping[str, int]) -> None:
        """Count kernel changes by kind that reverted external drift."""
        for kind, count in kinds.items():
            self._repairs.labels(kind).inc(count)

    def set_conflict(self, address_conflict: bool) -> None:
        self._address_conflict.set(address_conflict)

    def set_gateways(self, up: Mapping[str, bool], dead_routes: Mapping[str, int]) -> None:
        """Set, for each probed gateway, whether it answers, and how many routes have no gateway that answers."""
        for gateway, answers in up.items():
            self._gateway_up.labels(gateway).set(answers)
            self._dead_routes.labels(gateway).set(dead_routes.get(gateway, 0))
        for removed in self._gateways - up.keys():
            self._gateway_up.remove(removed)
            self._dead_routes.remove(removed)
        self._gateways = frozenset(up)
