"""Which of a route's gateways carry its traffic now: the alive ones of the best priority that has any."""

from collections.abc import Container
from dataclasses import dataclass

from overlay_net.model.kernel import DesiredRoute, Gateway, RouteKind
from overlay_net.model.net import IpAddress


@dataclass(frozen=True, slots=True)
class Active:
    """``gateways`` is empty and ``kind`` None for a route that is withdrawn."""

    gateways: tuple[Gateway, ...]
    kind: RouteKind | None
    all_down: bool = False


def active_gateways(route: DesiredRoute, down: Container[IpAddress]) -> Active:
    """Standbys take over from a priority as a whole: while one of its gateways is alive, the next ones stand by.

    When none is alive at all, ``on_all_down`` says what becomes of the route; ``keep`` leaves the best priority's ones:
    a dead route is better than one that leaks to the default gateway.
    """
    if route.kind != "unicast" or not route.gateways:
        return Active(route.gateways, route.kind)
    for priority in sorted({gateway.priority for gateway in route.gateways}):
        alive = tuple(
            gateway
            for gateway in route.gateways
            if gateway.priority == priority and (route.check.kind == "none" or gateway.address not in down)
        )
        if alive:
            return Active(alive, "unicast")
    match route.on_all_down:
        case "withdraw":
            return Active((), None, all_down=True)
        case "unreachable":
            return Active((), "unreachable", all_down=True)
        case _:
            best = min(gateway.priority for gateway in route.gateways)
            return Active(tuple(each for each in route.gateways if each.priority == best), "unicast", all_down=True)
