"""Selects the active gateways of a route: those of the best priority with any gateway up."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.net import IpAddress
from overlay_net.model.route import RouteKind


@dataclass(frozen=True, slots=True)
class Active:
    """The selected gateways. A withdrawn route has no ``gateways`` and ``kind`` None."""

    gateways: tuple[Gateway, ...]
    kind: RouteKind | None


def active_gateways(spec: RouteSpec, down: Collection[IpAddress]) -> Active:
    """Select the gateways. All of one priority carry traffic; the next priority takes over when all of them are down.

    If every gateway is down, ``on_all_down`` decides; ``keep`` uses those of the best priority, because a dead route is
    better than traffic that leaks to the default gateway.
    """
    if spec.kind != "unicast" or not spec.gateways:
        return Active(spec.gateways, spec.kind)
    up = _gateways_up(spec, down)
    if up:
        return Active(_best_priority(up), "unicast")
    match spec.on_all_down:
        case "withdraw":
            return Active((), None)
        case "unreachable":
            return Active((), "unreachable")
        case "keep":
            return Active(_best_priority(spec.gateways), "unicast")


def count_dead_routes(routes: Iterable[DesiredRoute], down: Collection[IpAddress]) -> Mapping[IpAddress, int]:
    """Count, for each gateway, the routes through it that have no gateway that is up; none without such a route."""
    if not down:
        return {}
    dead: Counter[IpAddress] = Counter()
    for spec, count in Counter(route.spec for route in routes).items():
        if spec.gateways and spec.kind == "unicast" and not _gateways_up(spec, down):
            dead.update({gateway.address: count for gateway in spec.gateways})
    return dead


def _gateways_up(spec: RouteSpec, down: Collection[IpAddress]) -> list[Gateway]:
    checked = spec.check.kind != "none"
    return [gateway for gateway in spec.gateways if not (checked and gateway.address in down)]


def _best_priority(gateways: Sequence[Gateway]) -> tuple[Gateway, ...]:
    best = min(gateway.priority for gateway in gateways)
    return tuple(gateway for gateway in gateways if gateway.priority == best)
