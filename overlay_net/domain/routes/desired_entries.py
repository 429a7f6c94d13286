"""What the slices must have of each StaticRoute, computed once for each revision."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from overlay_net.domain.routes.protected_subnets import RouteCheck
from overlay_net.domain.routes.route_sets import describe_selector, route_set_name
from overlay_net.domain.routes.slice_layout import Spot
from overlay_net.model.route_key import RouteKey, encode_route_key
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.model.static_route import StaticRoute


@dataclass(slots=True)
class DesiredEntry:
    """The entry of one valid StaticRoute, and where it is."""

    route: StaticRoute
    route_set: str
    entry: SliceEntry
    """Without ``slice_generation``."""
    keys: frozenset[RouteKey]
    selector: str
    """Which nodes have the set, or whose rollout it is for; for people."""
    refused: bool = False
    spot: Spot | None = None
    """The slice with the present revision, or if it is refused, with the latest one; None: none."""

    @classmethod
    def parse(cls, route: StaticRoute) -> "DesiredEntry":
        # A subnet may be listed twice, such as 10.1.0.0/16 and 10.1.0.0/255.255.0.0. Networks are slow to hash.
        subnets = {encode_route_key(each, route.spec.metric, route.spec.table): each for each in route.subnets}
        entry = SliceEntry(
            name=route.name,
            uid=route.uid,
            generation=route.generation,
            created=route.created,
            subnets=tuple(subnets.values()),
            spec=route.spec,
            probe=route.probe,
        )
        return cls(route, route_set_name(route), entry, frozenset(subnets), _describe(route))

    def is_revision(self, entry: SliceEntry) -> bool:
        """Return whether the entry is of the present revision, although it may lack what was refused."""
        return (entry.uid, entry.generation) == self.route.revision

    def is_for(self, route: StaticRoute) -> bool:
        """Return whether nothing has changed that decides about entry and set. Labels have no generation."""
        before = self.route
        return (before.revision, before.zone, before.created) == (route.revision, route.zone, route.created)


def _describe(route: StaticRoute) -> str:
    return describe_selector(route) if route.rollout is None else f"staticroute/{route.name}"


class DesiredEntries:
    """The valid StaticRoutes that are not being deleted, by name."""

    def __init__(self) -> None:
        self._entries: dict[str, DesiredEntry] = {}

    def update(self, static_routes: Iterable[StaticRoute], check: RouteCheck) -> None:
        before, self._entries = self._entries, {}
        for route in static_routes:
            if route.deleting or route.problem:
                continue
            found = before.get(route.name)
            if found is None or not found.is_for(route):
                found = DesiredEntry.parse(route)
            found.route = route
            found.refused = check.refusal(route) is not None
            self._entries[route.name] = found

    def __iter__(self) -> Iterator[DesiredEntry]:
        return iter(self._entries.values())

    def __contains__(self, static_route: str) -> bool:
        return static_route in self._entries

    def get(self, static_route: str) -> DesiredEntry | None:
        return self._entries.get(static_route)

    def find_suppliers(self, keys: Collection[RouteKey], without: str) -> Iterator[DesiredEntry]:
        """Yield the accepted StaticRoutes that have one of these keys."""
        for each in self._entries.values():
            if not each.refused and not each.keys.isdisjoint(keys) and each.route.name != without:
                yield each
