"""Watches the gateways of this node's routes: which to probe, which are down, and what to report."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from overlay_net.agent.gateway_prober import GatewayDown
from overlay_net.domain.kernel.agent_conditions import ProbeResult
from overlay_net.domain.kernel.gateway_health import Target, probe_targets
from overlay_net.domain.kernel.gateway_selection import count_dead_routes
from overlay_net.model.kernel import Desired, Observed
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import SilentGateway


class Prober(Protocol):
    """Probes the targets of the last call of ``watch``."""

    def watch(self, targets: Iterable[Target]) -> None: ...
    @property
    def down(self) -> frozenset[IpAddress]: ...
    @property
    def known(self) -> bool: ...
    @property
    def reports(self) -> tuple[GatewayDown, ...]: ...


class GatewayWatch:
    def __init__(self, prober: Prober) -> None:
        self._prober = prober
        self._probed: frozenset[IpAddress] = frozenset()
        self._dead_routes: Mapping[IpAddress, int] = {}

    @property
    def down(self) -> frozenset[IpAddress]:
        """Gateways that do not answer."""
        return self._prober.down

    @property
    def states(self) -> Mapping[IpAddress, bool]:
        """Whether each probed gateway is up."""
        return {address: address not in self.down for address in self._probed}

    @property
    def result(self) -> ProbeResult:
        """What is known about all gateways together."""
        if not self._probed:
            return ProbeResult.NONE
        return ProbeResult.KNOWN if self._prober.known else ProbeResult.AWAITED

    @property
    def dead_routes(self) -> Mapping[IpAddress, int]:
        """The number of routes through each probed gateway that have no gateway that is up."""
        return {address: self._dead_routes.get(address, 0) for address in self._probed}

    @property
    def failures(self) -> tuple[SilentGateway, ...]:
        """The gateways that are down, for the report."""
        return tuple(SilentGateway(each.address, each.since, each.reason) for each in self._prober.reports)

    def follow(self, desired: Desired, observed: Observed) -> None:
        """Probe the gateways of the desired routes from the addresses that are configured now."""
        overlay_link = desired.link.name if desired.link else desired.interface
        targets = probe_targets(desired.routes, observed, overlay_link)
        self._probed = frozenset(target.address for target in targets if target.check.kind != "none")
        self._prober.watch(targets)
        self._dead_routes = count_dead_routes(desired.routes, self.down)
