"""Which of a route's gateways carry its traffic now: the alive ones of the best priority that has any."""

from collections.abc import Container
from dataclasses import dataclass

from overlay_net.model.desired_route import Gateway, RouteSpec
from overlay_net.model.net import IpAddress
from overlay_net.model.route import RouteKind


@dataclass(frozen=True, slots=True)
class Active:
    """``gateways`` is empty and ``kind`` None for a route that is withdrawn."""

    gateways: tuple[Gateway, ...]
    kind: RouteKind | None


def active_gateways(spec: RouteSpec, down: Container[IpAddress]) -> Active:
    """Standbys take over from a priority as a whole: while one of its gateways is alive, the next ones stand by.

    When none is alive at all, ``on_all_down`` says what becomes of the route; ``keep`` leaves the best priority's ones:
    a dead route is better than one that leaks to the default gateway.
    """
    if spec.kind != "unicast" or not spec.gateways:
        return Active(spec.gateways, spec.kind)
    for priority in sorted({gateway.priority for gateway in spec.gateways}):
        alive = tuple(
            gateway
            for gateway in spec.gateways
            if gateway.priority == priority and (spec.check.kind == "none" or gateway.address not in down)
        )
        if alive:
            return Active(alive, "unicast")
    match spec.on_all_down:
        case "withdraw":
            return Active((), None)
        case "unreachable":
            return Active((), "unreachable")
        case _:
            best = min(gateway.priority for gateway in spec.gateways)
            return Active(tuple(each for each in spec.gateways if each.priority == best), "unicast")
