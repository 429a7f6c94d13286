"""Selects the active gateways of a route: those of the best priority with any gateway up."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from overlay_net.model.desired_route import Gateway, RouteSpec
from overlay_net.model.net import IpAddress
from overlay_net.model.route import RouteKind


@dataclass(frozen=True, slots=True)
class Active:
    """The selected gateways. A withdrawn route has no ``gateways`` and ``kind`` None."""

    gateways: tuple[Gateway, ...]
    kind: RouteKind | None


def active_gateways(spec: RouteSpec, down: Container[IpAddress]) -> Active:
    """Select the gateways. All of one priority carry traffic; the next priority takes over when all of them are down.

    If every gateway is down, ``on_all_down`` decides; ``keep`` uses those of the best priority, because a dead route is
    better than traffic that leaks to the default gateway.
    """
    if spec.kind != "unicast" or not spec.gateways:
        return Active(spec.gateways, spec.kind)
    checked = spec.check.kind != "none"
    up = [gateway for gateway in spec.gateways if not (checked and gateway.address in down)]
    if up:
        return Active(_best_priority(up), "unicast")
    match spec.on_all_down:
        case "withdraw":
            return Active((), None)
        case "unreachable":
            return Active((), "unreachable")
        case "keep":
            return Active(_best_priority(spec.gateways), "unicast")


def _best_priority(gateways: Sequence[Gateway]) -> tuple[Gateway, ...]:
    best = min(gateway.priority for gateway in gateways)
    return tuple(gateway for gateway in gateways if gateway.priority == best)
