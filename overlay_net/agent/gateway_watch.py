"""Watches the gateways of this node's routes: which to probe, which are down, and what to report."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from overlay_net.agent.gateway_prober import GatewayDown
from overlay_net.domain.kernel.agent_conditions import ProbeResult
from overlay_net.domain.kernel.gateway_health import Target, probe_targets
from overlay_net.domain.kernel.gateway_selection import count_dead_routes, own_addresses
from overlay_net.domain.kernel.link_health import LinkHealth
from overlay_net.model.kernel import Desired, Observed
from overlay_net.model.kernel_actions import KernelPlan, LinkFault
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


NO_PLAN: Final = KernelPlan()

SECOND_MAC_HINT: Final = (
    "; if no gateway answers this node, the network may drop the frames of a second MAC address (port security, MAC "
    "limit or anti-spoofing of the switch, hypervisor or cloud): allow it, or set link_mode: address"
)
"""For a gateway that has never answered on a link with a MAC of its own."""


class GatewayWatch:
    """``clock`` is monotonic."""

    def __init__(self, prober: Prober, clock: Callable[[], float] = time.monotonic) -> None:
        self._prober = prober
        self._clock = clock
        self._link_health = LinkHealth()
        self._faults: Mapping[IpAddress, tuple[LinkFault, datetime]] = {}
        """The gateways of the desired routes that are on no link that can carry traffic, and since when."""
        self._link_down = ""
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
    def held(self) -> frozenset[IpAddress]:
        """Gateways whose link fails repeatedly: they are not used for a while even if it can carry traffic again."""
        return self._link_health.held(self._clock())

    @property
    def wait(self) -> float | None:
        """Seconds until a gateway is no longer held, or None."""
        return self._link_health.wait(self._clock())

    @property
    def link_down(self) -> str:
        """Why the overlay link, or each link of the gateways of some route, cannot carry traffic."""
        return self._link_down

    @property
    def states(self) -> Mapping[IpAddress, bool]:
        """Whether each gateway is up that is probed, or on no link that can carry traffic."""
        probed = {address: address not in self.down for address in self._probed}
        return probed | dict.fromkeys(self._faults, False)

    @property
    def result(self) -> ProbeResult:
        """What is known about all gateways together."""
        if not self._probed:
            return ProbeResult.NONE
        return ProbeResult.KNOWN if self._prober.known else ProbeResult.AWAITED

    @property
    def dead_routes(self) -> Mapping[IpAddress, int]:
        """The number of routes through each gateway of ``states`` that have no gateway that is up."""
        return {address: self._dead_routes.get(address, 0) for address in self.states}

    @property
    def failures(self) -> tuple[SilentGateway, ...]:
        """The gateways that cannot be used, for the report; a link that is down explains why a gateway is silent."""
        remembered = [each for each in self._remembered if each.address in self.down]
        known = {each.address for each in remembered}
        silent = [
            SilentGateway(each.address, each.since, self._describe(each))
            for each in self._prober.reports
            if each.address not in known
        ]
        cut_off = [
            SilentGateway(address, since, fault.message, fault.reason)
            for address, (fault, since) in self._faults.items()
        ]
        linked = [each for each in (*remembered, *silent) if each.address not in self._faults]
        return tuple(sorted((*linked, *cut_off), key=lambda each: (each.address.version, int(each.address))))

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

    def follow(self, desired: Desired, observed: Observed, plan: KernelPlan = NO_PLAN) -> None:
        """Probe the gateways of the desired routes from the addresses that are configured now.

        ``plan`` is what the last pass left to do; it has the gateways that are on no link that can carry traffic.
        """
        overlay_link = desired.link.name if desired.link else desired.interface
        targets = probe_targets(desired.routes, observed, overlay_link)
        probed = [target for target in targets if target.check.kind != "none"]
        self._probed = frozenset(target.address for target in probed)
        self._overlay_link = overlay_link
        self._on_overlay_link = frozenset(target.address for target in probed if target.link == overlay_link)
        self._has_own_mac = desired.link is not None and desired.link.kind == "macvlan"
        self._prober.watch(targets)
        self._remembered = tuple(each for each in self._remembered if each.address in self.down)
        self._follow_links(desired, observed, plan.link_faults)

    def _follow_links(self, desired: Desired, observed: Observed, found: tuple[LinkFault, ...]) -> None:
        today = datetime.now(UTC).replace(microsecond=0)
        self._link_health = self._link_health.follow(found, self._clock(), today)
        faults = self._link_health.faults()
        specs = {route.spec for route in desired.routes} if faults else set()
        used = {gateway.address for spec in specs for gateway in spec.gateways}
        self._faults = {address: faults[address] for address in used if address in faults}
        own = own_addresses(desired.address, observed)
        self._dead_routes = count_dead_routes(desired.routes, self.down, self._faults, own)
        cut_off = count_dead_routes(desired.routes, (), self._faults, own)
        if None in faults:
            self._link_down = faults[None][0].message
        elif cut_off:
            worst = max(cut_off, key=lambda address: (cut_off[address], -int(address)))
            self._link_down = f"{faults[worst][0].message}; routes without another gateway: {cut_off[worst]}"
        else:
            self._link_down = ""

    def _describe(self, gateway: GatewayDown) -> str:
        may_be_dropped = self._has_own_mac and gateway.link == self._overlay_link and not gateway.answered
        return gateway.reason + SECOND_MAC_HINT if may_be_dropped else gateway.reason
