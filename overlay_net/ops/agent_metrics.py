"""The metrics of the agent."""

from collections.abc import Mapping

from overlay_net.ops.metrics import Metrics


class AgentMetrics(Metrics):
    def __init__(self) -> None:
        super().__init__("agent")
        self.configured = self._gauge(
            "overlay_net_address_configured", "1 while the overlay address is set in the kernel."
        )
        self._routes = self._gauge(
            "overlay_net_routes", "Routes of this node by state: desired, programmed, failed.", "state"
        )
        self._kernel_changes = self._counter(
            "overlay_net_kernel_changes_total", "Changes made to the kernel by kind.", "kind"
        )
        self._repairs = self._counter(
            "overlay_net_drift_repairs_total", "Changes to the kernel that reverted external drift, by kind.", "kind"
        )
        self._address_conflict = self._gauge(
            "overlay_net_duplicate_address", "1 while another host uses the overlay address of this node."
        )
        self._gateway_up = self._gauge(
            "overlay_net_gateway_up", "1 while the gateway answers the probes of this node.", "gateway"
        )
        self._gateways: frozenset[str] = frozenset()
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

    def set_probe_results(self, address_conflict: bool, gateways: Mapping[str, bool]) -> None:
        """``gateways`` has whether each probed gateway answers."""
        self._address_conflict.set(address_conflict)
        for gateway, up in gateways.items():
            self._gateway_up.labels(gateway).set(up)
        for removed in self._gateways - gateways.keys():
            self._gateway_up.remove(removed)
        self._gateways = frozenset(gateways)
