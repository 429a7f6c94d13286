"""Selects the active gateways of a route: those of the best priority among the gateways that can be used."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.kernel import Addresses, Observed
from overlay_net.model.net import IpAddress, IpInterface
from overlay_net.model.route import RouteKind

NONE: frozenset[IpAddress] = frozenset()


@dataclass(frozen=True, slots=True)
class Active:
    """The selected gateways. A withdrawn route has no ``gateways`` and ``kind`` None."""

    gateways: tuple[Gateway, ...]
    kind: RouteKind | None


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """The addresses of this node, which cannot be its next hops.

    An address that failed duplicate address detection belongs to another host.
    """

    overlay: IpAddress | None
    """The desired overlay address."""
    present: Addresses

    def __contains__(self, address: IpAddress) -> bool:
        return address == self.overlay or any(not each.dad_failed for each in self.present.at(address))


def own_addresses(address: IpInterface | None, observed: Observed) -> OwnAddresses:
    """``address`` is the desired overlay address."""
    return OwnAddresses(address.ip if address is not None else None, observed.address_index)


def active_gateways(
    spec: RouteSpec,
    down: Collection[IpAddress],
    cut_off: Collection[IpAddress] = NONE,
    held: Collection[IpAddress] = NONE,
    own: OwnAddresses | Collection[IpAddress] = NONE,
) -> Active:
    """Select the gateways. All of one priority carry traffic; the next priority takes over when all of them fail.

    ``down`` gateways do not answer, ``cut_off`` ones are on no link that can carry traffic, the link of ``held`` ones
    fails repeatedly, and ``own`` ones are this node. Those that are held are used if there is no other gateway. If
    there is none at all, ``on_all_down`` decides; ``keep`` uses those of the best priority, if possible on a link that
    can carry traffic, because a dead route is better than traffic that leaks to the default gateway.
    """
    if spec.kind != "unicast" or not spec.gateways:
        return Active(spec.gateways, spec.kind)
    others = [gateway for gateway in spec.gateways if gateway.address not in own]
    linked = [gateway for gateway in others if gateway.address not in cut_off]
    up = _answering(linked, spec, down)
    if up:
        return Active(_best_priority([gateway for gateway in up if gateway.address not in held] or up), "unicast")
    match spec.on_all_down:
        case "withdraw":
            return Active((), None)
        case "unreachable":
            return Active((), "unreachable")
        case "keep":
            return Active(_best_priority(linked or others), "unicast")


def count_dead_routes(
    routes: Iterable[DesiredRoute],
    down: Collection[IpAddress],
    cut_off: Collection[IpAddress] = NONE,
    own: OwnAddresses | Collection[IpAddress] = NONE,
) -> Mapping[IpAddress, int]:
    """Count, for each gateway, the routes through it that no gateway can carry; none without such a route."""
    if not (down or cut_off):
        return {}
    dead: Counter[IpAddress] = Counter()
    for spec, count in Counter(route.spec for route in routes).items():
        others = [gateway for gateway in spec.gateways if gateway.address not in own]
        linked = [gateway for gateway in others if gateway.address not in cut_off]
        if others and spec.kind == "unicast" and not _answering(linked, spec, down):
            dead.update({gateway.address: count for gateway in others})
    return dead


def _answering(gateways: Sequence[Gateway], spec: RouteSpec, down: Collection[IpAddress]) -> list[Gateway]:
    checked = spec.check.kind != "none"
    return [gateway for gateway in gateways if not (checked and gateway.address in down)]


def _best_priority(gateways: Sequence[Gateway]) -> tuple[Gateway, ...]:
    best = min(gateway.priority for gateway in gateways)
    return tuple(gateway for gateway in gateways if gateway.priority == best)
