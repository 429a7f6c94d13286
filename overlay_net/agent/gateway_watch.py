"""Watches the gateways of this node's routes: which to probe, which are down, and what to report."""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from overlay_net.agent.gateway_prober import GatewayDown
from overlay_net.domain.kernel.agent_conditions import ProbeResult
from overlay_net.domain.kernel.gateway_health import Target, probe_targets
from overlay_net.domain.kernel.gateway_selection import count_dead_routes
from overlay_net.model.kernel import Desired, Observed
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import SilentGateway


class Prober(Protocol):
    """Probes the targets of the last call of ``watch``."""

    def assume_down(self, gateways: Iterable[IpAddress]) -> None: ...
    def watch(self, targets: Iterable[Target]) -> None: ...
    @property
    def down(self) -> frozenset[IpAddress]: ...
    @property
    def known(self) -> bool: ...
    @property
    def reports(self) -> tuple[GatewayDown, ...]: ...
    def has_answer(self, link: str) -> bool: ...


SECOND_MAC_HINT: Final = (
    "; if no gateway answers this node, the network may drop the frames of a second MAC address (port security, MAC "
    "limit or anti-spoofing of the switch, hypervisor or cloud): allow it, or set link_mode: address"
)
"""For a gateway that has never answered on a link with a MAC of its own."""


class GatewayWatch:
    def __init__(self, prober: Prober) -> None:
        self._prober = prober
        self._probed: frozenset[IpAddress] = frozenset()
        self._dead_routes: Mapping[IpAddress, int] = {}
        self._overlay_link = ""
        self._on_overlay_link: frozenset[IpAddress] = frozenset()
        """The probed gateways on the overlay link."""
        self._has_own_mac = False
        self._remembered: tuple[SilentGateway, ...] = ()
        """Gateways that the last report of an earlier process has, while they are still down."""

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
        remembered = [each for each in self._remembered if each.address in self.down]
        known = {each.address for each in remembered}
        found = [
            SilentGateway(each.address, each.since, self._describe(each))
            for each in self._prober.reports
            if each.address not in known
        ]
        return tuple(sorted((*remembered, *found), key=lambda each: (each.address.version, int(each.address))))

    @property
    def unproven(self) -> frozenset[IpAddress]:
        """The probed gateways on the overlay link, if none of them has answered yet."""
        return frozenset() if self._prober.has_answer(self._overlay_link) else self._on_overlay_link

    def resume(self, down: frozenset[IpAddress], reported: Iterable[SilentGateway]) -> None:
        """Count gateways as down that were down before this process started, until they have a result.

        ``reported`` are those of the last report; as long as they are down, they are reported unchanged.
        """
        self._remembered = tuple(each for each in reported if each.address in down)
        self._prober.assume_down(down)

    def follow(self, desired: Desired, observed: Observed) -> None:
        """Probe the gateways of the desired routes from the addresses that are configured now."""
        overlay_link = desired.link.name if desired.link else desired.interface
        targets = probe_targets(desired.routes, observed, overlay_link)
        probed = [target for target in targets if target.check.kind != "none"]
        self._probed = frozenset(target.address for target in probed)
        self._overlay_link = overlay_link
        self._on_overlay_link = frozenset(target.address for target in probed if target.link == overlay_link)
        self._has_own_mac = desired.link is not None and desired.link.kind == "macvlan"
        self._prober.watch(targets)
        self._remembered = tuple(each for each in self._remembered if each.address in self.down)
        self._dead_routes = count_dead_routes(desired.routes, self.down)

    def _describe(self, gateway: GatewayDown) -> str:
        may_be_dropped = self._has_own_mac and gateway.link == self._overlay_link and not gateway.answered
        return gateway.reason + SECOND_MAC_HINT if may_be_dropped else gateway.reason
