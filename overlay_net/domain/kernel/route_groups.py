"""Wished routes, sorted out once for the many looks at the kernel that ask for them."""

from collections.abc import Sequence
from dataclasses import dataclass

from overlay_net.model.kernel import DesiredRoute
from overlay_net.model.route_key import RouteKey, version_of


@dataclass(frozen=True, slots=True)
class RouteGroup:
    """Wishes that differ in nothing but their subnet and their owner: one decision is good for all of them."""

    like: DesiredRoute
    """Any of them."""
    route_groups: list[DesiredRoute]


@dataclass(frozen=True, slots=True)
class RouteGroups:
    alike: tuple[RouteGroup, ...]
    repeated: tuple[DesiredRoute, ...]
    """Those whose key an earlier one has."""


def group_routes(routes: Sequence[DesiredRoute]) -> RouteGroups:
    groups: dict[tuple[object, ...], RouteGroup] = {}
    repeated: list[DesiredRoute] = []
    seen: set[RouteKey] = set()
    for wish in routes:
        key = wish.route_key
        if key in seen:
            repeated.append(wish)
            continue
        seen.add(key)
        # Thousands of routes share their gateways and checks as the very same values, and addresses are slow to hash.
        sort = (
            id(wish.gateways),
            id(wish.check),
            version_of(key),
            wish.metric,
            wish.table,
            wish.kind,
            wish.mtu,
            wish.advmss,
            wish.on_link,
            wish.on_all_down,
        )
        group = groups.get(sort)
        if group is None:
            group = groups[sort] = RouteGroup(wish, [])
        group.route_groups.append(wish)
    return RouteGroups(tuple(groups.values()), tuple(repeated))
