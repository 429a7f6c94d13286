"""Wished routes, sorted out once for the many looks at the kernel that ask for them."""

from collections.abc import Sequence
from dataclasses import dataclass

from overlay_net.model.desired_route import DesiredRoute, RouteSpec
from overlay_net.model.route_key import RouteKey, decode_version


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
    groups: dict[tuple[RouteSpec, int], RouteGroup] = {}
    repeated: list[DesiredRoute] = []
    seen: set[RouteKey] = set()
    for wish in routes:
        key = wish.key
        if key in seen:
            repeated.append(wish)
            continue
        seen.add(key)
        sort = (wish.spec, decode_version(key))
        group = groups.get(sort)
        if group is None:
            group = groups[sort] = RouteGroup(wish, [])
        group.route_groups.append(wish)
    return RouteGroups(tuple(groups.values()), tuple(repeated))
