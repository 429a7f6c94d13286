"""StaticRoutes by what in a report or a slice may concern them."""

from collections.abc import Hashable, Set
from typing import Final, Generic, TypeVar

from overlay_net.domain.routes.occurrences import route_keys
from overlay_net.domain.routes.route_sets import rollout_set_prefix, route_set_name
from overlay_net.model.net import IpAddress
from overlay_net.model.route_key import RouteKey
from overlay_net.model.static_route import StaticRoute

K = TypeVar("K", bound=Hashable)

NO_NAMES: Final[Set[str]] = frozenset()


class NamesBy(Generic[K]):
    """Names of objects by keys, of which each object may have several."""

    def __init__(self) -> None:
        self._names: dict[K, set[str]] = {}

    def __getitem__(self, key: K) -> Set[str]:
        return self._names.get(key, NO_NAMES)

    def replace(self, name: str, before: Set[K], after: Set[K]) -> None:
        """Replace the keys of an object."""
        for key in before - after:
            names = self._names[key]
            names.discard(name)
            if not names:
                del self._names[key]
        for key in after - before:
            self._names.setdefault(key, set()).add(name)


class StaticRouteIndex:
    def __init__(self) -> None:
        self.by_key: NamesBy[RouteKey] = NamesBy()
        """The StaticRoutes that specify a route with this key."""
        self.by_gateway: NamesBy[IpAddress] = NamesBy()
        self.without_gateway: set[str] = set()
        self.by_set: NamesBy[str] = NamesBy()
        """The StaticRoutes that belong to each route set now."""
        self.by_node: NamesBy[str] = NamesBy()
        """The StaticRoutes that a node has according to the earlier operator."""
        self.staged: set[str] = set()
        """The StaticRoutes that have, or have had, a staged rollout."""
        self._by_prefix: NamesBy[str] = NamesBy()
        """StaticRoutes by the prefix of the names of the sets that they have alone."""

    def replace(self, name: str, before: StaticRoute | None, after: StaticRoute | None) -> None:
        """Replace a StaticRoute; None: it does not exist."""
        self.by_key.replace(name, _find_keys(before), _find_keys(after))
        self.by_gateway.replace(name, _find_gateways(before), _find_gateways(after))
        self.by_set.replace(name, _find_sets(before), _find_sets(after))
        self.by_node.replace(name, _find_nodes(before), _find_nodes(after))
        self._by_prefix.replace(name, _find_prefixes(before), _find_prefixes(after))
        if after is not None and after.rollout is not None:
            self.staged.add(name)
        lacks_gateway = after is not None and not after.spec.gateways
        (self.without_gateway.add if lacks_gateway else self.without_gateway.discard)(name)

    def find_rollouts(self, route_set: str) -> Set[str]:
        """Return the StaticRoute with a rollout that the set is of, also if it is one of an earlier revision."""
        return self._by_prefix[f"{route_set.rpartition('-')[0].rpartition('-')[0]}-"]


def _find_keys(route: StaticRoute | None) -> Set[RouteKey]:
    return frozenset() if route is None else frozenset(route_keys(route))


def _find_gateways(route: StaticRoute | None) -> Set[IpAddress]:
    return frozenset() if route is None else frozenset(gateway.address for gateway in route.spec.gateways)


def _find_sets(route: StaticRoute | None) -> Set[str]:
    return frozenset() if route is None else frozenset({route_set_name(route)})


def _find_nodes(route: StaticRoute | None) -> Set[str]:
    return frozenset() if route is None else route.earlier.keys()


def _find_prefixes(route: StaticRoute | None) -> Set[str]:
    return frozenset() if route is None or route.rollout is None else frozenset({rollout_set_prefix(route.name)})
