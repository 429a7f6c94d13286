"""Which nodes have each route set, and what their agents have observed of its slices."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from overlay_net.model.net import IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_slice import NamedSet


@dataclass(frozen=True, slots=True)
class SetUser:
    """A node with a NodeOverlayIp."""

    node: Node
    overlay: NodeOverlay
    silent: bool
    """Its agent has not renewed its Lease for too long."""

    def has_observed(self, route_set: str, slice_name: str, generation: int) -> bool:
        """Return whether the agent uses this generation of a slice or a later one, or need not be waited for.

        A generation counts only in a report about the present spec with the set. The agent of an earlier version does
        not read slices.
        """
        if not self.overlay.names_set(route_set):
            return False
        if self.silent:
            return True
        observed = self.overlay.report.observed_slices
        return self.overlay.is_current and (observed is None or observed.get(slice_name, 0) >= generation)


@dataclass(frozen=True, slots=True)
class EarlierRoutes:
    """What the objects that an earlier version wrote have of one StaticRoute."""

    nodes: int
    """How many objects have routes of it."""
    subnets: frozenset[IpNetwork]
    """The subnets that all of these have."""


class SetUsers(Protocol):
    """What a plan of slices needs to know about nodes."""

    @property
    def latest_since(self) -> datetime | None:
        """The latest time at which a NodeOverlayIp began to name a set."""
        ...

    def count(self, route_set: str) -> int:
        """Return how many NodeOverlayIps name the set, including those that are being deleted."""
        ...

    def users(self, route_set: str) -> Iterable[SetUser]:
        """Return the nodes that have the set, without those whose Node or NodeOverlayIp is gone or being deleted."""
        ...

    def find_earlier(self, static_routes: Collection[str]) -> Mapping[str, EarlierRoutes]:
        """Return which of the StaticRoutes are in ``spec.routes`` of nodes that have no route sets yet."""
        ...


class SetUserIndex:
    """The nodes of each set, updated with each NodeOverlayIp. ``find_user`` returns None for a node that is gone."""

    def __init__(self, find_user: Callable[[str], SetUser | None]) -> None:
        self._find_user = find_user
        self._nodes: dict[str, dict[str, None]] = {}
        self._sets: dict[str, tuple[NamedSet, ...]] = {}
        self._earlier: dict[str, NodeOverlay] = {}
        """The objects that an earlier version wrote."""
        self.latest_since: datetime | None = None

    def update(self, node: str, overlay: NodeOverlay | None) -> None:
        """Replace what is known about the NodeOverlayIp of ``node``; None: it does not exist any more."""
        if overlay is not None and overlay.route_sets is None and overlay.routes:
            self._earlier[node] = overlay
        else:
            self._earlier.pop(node, None)
        before, after = self._sets.get(node, ()), (overlay.route_sets if overlay is not None else None) or ()
        if before != after:
            self._sets[node] = after
            self._replace(node, before, after)
        if overlay is None:
            self._sets.pop(node, None)

    def _replace(self, node: str, before: Iterable[NamedSet], after: Iterable[NamedSet]) -> None:
        for each in after:
            self._nodes.setdefault(each.name, {})[node] = None
            if each.since is not None and (self.latest_since is None or each.since > self.latest_since):
                self.latest_since = each.since
        for name in {each.name for each in before} - {each.name for each in after}:
            del self._nodes[name][node]
            if not self._nodes[name]:
                del self._nodes[name]

    def count(self, route_set: str) -> int:
        return len(self._nodes.get(route_set, ()))

    def users(self, route_set: str) -> Iterator[SetUser]:
        for name in tuple(self._nodes.get(route_set, ())):
            user = self._find_user(name)
            if user is not None:
                yield user

    def find_earlier(self, static_routes: Collection[str]) -> Mapping[str, EarlierRoutes]:
        found: dict[str, EarlierRoutes] = {}
        for overlay in tuple(self._earlier.values()) if static_routes else ():
            for name, subnets in _find_subnets(overlay, static_routes).items():
                before = found.get(name)
                found[name] = EarlierRoutes(
                    before.nodes + 1 if before is not None else 1,
                    before.subnets & subnets if before is not None else frozenset(subnets),
                )
        return found


def _find_subnets(overlay: NodeOverlay, static_routes: Collection[str]) -> Mapping[str, set[IpNetwork]]:
    found: dict[str, set[IpNetwork]] = {}
    for route in overlay.routes:
        if route.static_route in static_routes:
            found.setdefault(route.static_route, set()).add(route.subnet)
    return found
