"""Groups desired routes by specification, so that decisions are made once for each group."""

from collections.abc import Sequence
from dataclasses import dataclass

from overlay_net.model.desired_route import DesiredRoute, RouteSpec
from overlay_net.model.route_key import RouteKey, decode_version


@dataclass(frozen=True, slots=True)
class RouteGroup:
    """Routes with the same specification and IP version."""

    routes: list[DesiredRoute]
    """At least one."""

    @property
    def first(self) -> DesiredRoute:
        return self.routes[0]


@dataclass(frozen=True, slots=True)
class RouteGroups:
    groups: tuple[RouteGroup, ...]
    duplicates: tuple[DesiredRoute, ...]
    """Routes with the key of an earlier one; they are in no group."""


def group_routes(routes: Sequence[DesiredRoute]) -> RouteGroups:
    groups: dict[tuple[RouteSpec, int], RouteGroup] = {}
    duplicates: list[DesiredRoute] = []
    keys: set[RouteKey] = set()
    for route in routes:
        key = route.key
        if key in keys:
            duplicates.append(route)
            continue
        keys.add(key)
        kind = (route.spec, decode_version(key))
        group = groups.get(kind)
        if group is None:
            group = groups[kind] = RouteGroup([])
        group.routes.append(route)
    return RouteGroups(tuple(groups.values()), tuple(duplicates))
