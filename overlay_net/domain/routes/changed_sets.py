"""Which nodes a change of the route sets that exist may concern."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from overlay_net.domain.routes.set_states import RouteSets
from overlay_net.model.static_route import StaticRoute

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChangedSets:
    routes: tuple[StaticRoute, ...]
    """The nodes that one of these selects may get a set."""
    names: frozenset[str]
    """The nodes that name one of these sets may lose it."""


def find_changed(before: RouteSets, after: RouteSets) -> ChangedSets:
    """Return what is different."""
    shared = _differences(before.shared, after.shared)
    staged = _differences(before.staged, after.staged)
    # All StaticRoutes of a shared set select the same nodes.
    routes = {name: each.route for name, pair in shared.items() for each in pair if each is not None and each.route}
    moved = (each.route for pair in staged.values() for each in pair if each is not None)
    rollouts = {**before.rollouts, **after.rollouts}
    names = shared.keys() | {name for name, static_route in rollouts.items() if static_route in staged}
    return ChangedSets((*routes.values(), *moved), frozenset(names))


def _differences(before: Mapping[str, T], after: Mapping[str, T]) -> dict[str, tuple[T | None, T | None]]:
    pairs = ((name, before.get(name), after.get(name)) for name in before.keys() | after.keys())
    return {name: (old, new) for name, old, new in pairs if old != new}
