"""Gateway health: derives a state with flap damping from probe results, and selects the gateways to probe.

An unknown gateway counts as up. A probe that this node could not send (link down, socket error) is not a result and is
never passed to ``next_health``.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from overlay_net.domain.kernel.gateway_selection import own_addresses
from overlay_net.domain.kernel.link_lookup import find_fault
from overlay_net.model.desired_route import DesiredRoute, HealthCheck, RouteSpec
from overlay_net.model.kernel import Observed
from overlay_net.model.net import IpAddress, IpInterface

FIRST_HOLD: Final = 5.0
LONGEST_HOLD: Final = 300.0
WINDOW: Final = 600.0
"""Seconds after a recovery within which going down again counts as flapping."""
MOST_FALLS: Final = 7
"""Maximum counted number of falls: 5 s doubled six times exceeds LONGEST_HOLD."""


@dataclass(frozen=True, slots=True)
class Target:
    """One gateway and how this node probes it."""

    address: IpAddress
    check: HealthCheck
    source: IpAddress
    link: str
    """Name of the link that the gateway is on."""


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """``GatewayHealth()`` is a gateway without results, which is up. Times are in seconds of one monotonic clock."""

    down: bool = False
    streak: int = 0
    """Consecutive failures while up, consecutive answers while down."""
    since: float = 0.0
    """Time of the last change between up and down."""
    falls: int = 0
    """How often the gateway went down recently; each WINDOW for which it is up decreases this by one."""
    held_until: float = 0.0
    """The gateway does not come up before this time, even if it answers."""
    answered: bool = False
    """Whether the gateway has answered since its probes began."""

    @property
    def known(self) -> bool:
        """Return whether the gateway has answered or gone down since its probes began."""
        return self.answered or self.down


def next_health(
    health: GatewayHealth, check: HealthCheck, alive: bool, now: float, *, free_falls: int = 0
) -> GatewayHealth:
    """Return the state after one more result.

    A gateway goes down after ``check.failures`` consecutive failures. It comes up again after ``check.successes``
    consecutive answers, but not before the hold is over: 5 s after the first fall, doubled for each fall within ten
    minutes of the last recovery, at most 300 s. A flapping gateway would move traffic back and forth, and every move
    loses packets. ``free_falls`` is the number of falls without a hold.
    """
    health = replace(health, answered=health.answered or alive)
    if health.down:
        if not alive:
            return replace(health, streak=0)
        streak = health.streak + 1
        if streak < check.successes or now < health.held_until:
            return replace(health, streak=streak)
        return replace(health, down=False, streak=0, since=now)
    if alive:
        return replace(health, streak=0)
    streak = health.streak + 1
    if streak < check.failures:
        return replace(health, streak=streak)
    falls = min(recent_falls(health, now) + 1, MOST_FALLS)
    hold = hold_seconds(falls - free_falls) if falls > free_falls else 0.0
    return GatewayHealth(True, 0, now, falls, now + hold, health.answered)


def recent_falls(health: GatewayHealth, now: float) -> int:
    """Return the falls that still count for a gateway that is up."""
    return max(0, health.falls - int((now - health.since) / WINDOW))


def hold_seconds(falls: int) -> float:
    """Return how long the gateway is held down after its n-th fall."""
    return min(LONGEST_HOLD, FIRST_HOLD * 2.0 ** (falls - 1))


def probe_targets(routes: Iterable[DesiredRoute], observed: Observed, off_link: str = "") -> frozenset[Target]:
    """Return the gateways of the routes that can be probed now, including standbys, with a source address of the link.

    A gateway outside the subnets of all links that are up is probed on ``off_link`` if its route is ``on_link``;
    otherwise it is not probed. On a link without Ethernet, such as a tunnel, a gateway cannot be probed by ARP. A
    gateway that is this node is not probed either: it would not answer itself.
    """
    no_ethernet = {link.name for link in observed.links if not link.ethernet}
    sources = _find_sources(observed, off_link)
    own = own_addresses(None, observed)
    specs = {route.spec for route in routes}
    targets = (target for spec in specs for target in _spec_targets(spec, sources, off_link))
    return frozenset(target for target in targets if target.address not in own and _can_probe(target, no_ethernet))


def _can_probe(target: Target, no_ethernet: Collection[str]) -> bool:
    return target.check.kind != "arp" or target.link not in no_ethernet


_Sources: TypeAlias = Sequence[tuple[IpInterface, str]]
"""Source addresses with the names of their links, best first."""


def _find_sources(observed: Observed, off_link: str) -> _Sources:
    """Return the sources, most specific subnet first as in routing, then those of links that can carry traffic, and of
    the overlay link."""
    links = {link.index: link for link in observed.links}
    up = {link.index: link.name for link in observed.links if link.up}
    index = observed.address_index
    without_gateway = (each for link in up if up[link] == off_link for each in index.on(link))
    candidates = dict.fromkeys((*index.with_neighbours, *without_gateway))
    found = [each for each in candidates if each.link in up and each.in_use]
    faulty = {index for index in {each.link for each in found} if find_fault(links[index], links)}
    found.sort(key=lambda each: (-each.interface.network.prefixlen, each.link in faulty, up[each.link] != off_link))
    return [(each.interface, up[each.link]) for each in found]


def _spec_targets(spec: RouteSpec, sources: _Sources, off_link: str) -> Iterable[Target]:
    if spec.kind != "unicast" or spec.check.kind == "none":
        return
    for gateway in spec.gateways:
        source = _find_source(gateway.address, spec, sources, off_link)
        if source is not None:
            interface, link = source
            yield Target(gateway.address, spec.check, interface.ip, link)


def _find_source(
    gateway: IpAddress, spec: RouteSpec, sources: _Sources, off_link: str
) -> tuple[IpInterface, str] | None:
    for interface, link in sources:
        if gateway in interface.network:
            return interface, link
    if not spec.on_link:
        return None
    same_family = (source for source in sources if source[1] == off_link and source[0].version == gateway.version)
    return next(same_family, None)
