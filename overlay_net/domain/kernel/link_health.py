"""Remembers which gateways are on no link that can carry traffic, with flap damping.

A gateway fails at once, and comes back with its link. If the link fails again within ten minutes, the gateway is held
for a while after its link is back, like a gateway that does not answer: neither traffic nor reports follow each flap.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from overlay_net.domain.kernel.gateway_health import GatewayHealth, next_health, recent_falls
from overlay_net.model.desired_route import HealthCheck
from overlay_net.model.kernel_actions import LinkFault
from overlay_net.model.net import IpAddress

AT_ONCE: Final = HealthCheck("none", failures=1, successes=1)
"""The state of a link is known, unlike that of a gateway that misses a probe."""

FREE_FALLS: Final = 1


@dataclass(frozen=True, slots=True)
class _State:
    health: GatewayHealth
    fault: LinkFault
    since: datetime


@dataclass(frozen=True, slots=True)
class LinkHealth:
    """The gateways that failed recently; None is the overlay link itself. Times are of one monotonic clock."""

    _states: Mapping[IpAddress | None, _State] = field(default_factory=dict)

    def follow(self, faults: Collection[LinkFault], now: float, today: datetime) -> "LinkHealth":
        """Return the state after one more observation; ``today`` is the present time for people."""
        present = {fault.gateway: fault for fault in faults}
        states: dict[IpAddress | None, _State] = {}
        for gateway in self._states.keys() | present.keys():
            state = _next_state(self._states.get(gateway), present.get(gateway), now, today)
            if state is not None:
                states[gateway] = state
        return LinkHealth(states)

    def faults(self) -> Mapping[IpAddress | None, tuple[LinkFault, datetime]]:
        """Return what does not work, or is held, and since when."""
        return {gateway: (state.fault, state.since) for gateway, state in self._states.items() if state.health.down}

    def held(self, now: float) -> frozenset[IpAddress]:
        """Return the gateways that must not be used yet even if their link can carry traffic."""
        return frozenset(
            gateway
            for gateway, state in self._states.items()
            if gateway is not None and state.health.down and now < state.health.held_until
        )

    def wait(self, now: float) -> float | None:
        """Return the seconds until the next hold ends, or None."""
        holds = (state.health.held_until - now for state in self._states.values() if state.health.down)
        return min((hold for hold in holds if hold > 0), default=None)


def _next_state(state: _State | None, fault: LinkFault | None, now: float, today: datetime) -> _State | None:
    """Return the next state of one gateway; None if nothing is left to remember."""
    before = state.health if state is not None else GatewayHealth(since=now)
    health = next_health(before, AT_ONCE, fault is None, now, free_falls=FREE_FALLS)
    if fault is None:
        remembered = state is not None and (health.down or recent_falls(health, now) > 0)
        return _State(health, state.fault, state.since) if state is not None and remembered else None
    if health.falls > FREE_FALLS:
        # The same text while the link flaps.
        message = f"{fault.message}; it fails repeatedly, so it is not used for {health.held_until - health.since:g} s"
        fault = LinkFault(fault.gateway, fault.reason, message)
    since = state.since if state is not None and before.down else today
    return _State(health, fault, since)
