"""Is a gateway up or down: from single answers to a state that does not flap, and which gateways are asked from where.

Not knowing is not "down": a gateway that was never asked counts as alive, and what this node could not ask (its own
link is down, a socket failed) is no result at all and is never given to ``after``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from overlay_net.model.kernel import DesiredRoute, HealthCheck, Observed
from overlay_net.model.net import IpAddress

FIRST_HOLD: Final = 5.0
LONGEST_HOLD: Final = 300.0
WINDOW: Final = 600.0
"""Seconds within which another fall counts as flapping."""
MOST_FALLS: Final = 7
"""5 s doubled six times is more than LONGEST_HOLD."""


@dataclass(frozen=True, slots=True)
class Target:
    """One gateway as this node asks it."""

    address: IpAddress
    check: HealthCheck
    source: IpAddress
    link: str
    """Name of the link that the gateway is on."""


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """``GatewayHealth()`` is a gateway of which nothing is known: alive. Times are seconds of one monotonic clock."""

    down: bool = False
    row: int = 0
    """Failures in a row while up, answers in a row while down."""
    since: float = 0.0
    """When it last went down or came up."""
    falls: int = 0
    """How often it went down lately; one is forgiven for each WINDOW that it stayed up."""
    held_until: float = 0.0
    """Before this it does not come up, whatever it answers."""


def after(health: GatewayHealth, check: HealthCheck, alive: bool, now: float) -> GatewayHealth:
    """The state after one result.

    Down after ``check.failures`` failures in a row. Up again after ``check.successes`` answers in a row, but not before
    the hold is over: 5 s after the first fall, doubled with each fall within ten minutes of the last recovery, 300 s
    at most. An address that flaps would move the traffic to and fro, and each move costs packets.
    """
    if health.down:
        if not alive:
            return replace(health, row=0)
        row = health.row + 1
        if row < check.successes or now < health.held_until:
            return replace(health, row=row)
        return replace(health, down=False, row=0, since=now)
    if alive:
        return replace(health, row=0)
    row = health.row + 1
    if row < check.failures:
        return replace(health, row=row)
    falls = min(lately(health, now) + 1, MOST_FALLS)
    return GatewayHealth(True, 0, now, falls, now + hold(falls))


def lately(health: GatewayHealth, now: float) -> int:
    """How many of its falls a gateway that is up has not yet been forgiven."""
    return max(0, health.falls - int((now - health.since) / WINDOW))


def hold(falls: int) -> float:
    """Seconds for which the gateway is held down at its n-th fall."""
    return min(LONGEST_HOLD, FIRST_HOLD * 2.0 ** (falls - 1))


def probe_targets(routes: Iterable[DesiredRoute], observed: Observed, off_link: str = "") -> frozenset[Target]:
    """Every gateway of the routes that can be asked now, standbys included; each from an address of its own link.

    A gateway in no subnet of a link that is up is asked on ``off_link`` where the route says that it is there all the
    same (``on_link``), and not at all otherwise.
    """
    up = {link.index: link.name for link in observed.links if link.up}
    places = sorted(
        ((each.interface, up[each.link]) for each in observed.addresses if each.link in up and each.in_use),
        # The most specific subnet is the one that the routes take, and among equals that of the overlay link.
        key=lambda place: (-place[0].network.prefixlen, place[1] != off_link),
    )
    targets = set()
    # Thousands of routes share few gateways, as the very same values.
    seen: set[tuple[int, int, bool]] = set()
    for route in routes:
        same = (id(route.gateways), id(route.check), route.on_link)
        if same in seen or route.kind != "unicast" or route.check.kind == "none":
            continue
        seen.add(same)
        for gateway in route.gateways:
            around = [place for place in places if gateway.address in place[0].network]
            if not around and route.on_link:
                version = gateway.address.version
                around = [place for place in places if place[1] == off_link and place[0].version == version]
            if around:
                interface, link = around[0]
                targets.add(Target(gateway.address, route.check, interface.ip, link))
    return frozenset(targets)
