"""Which nodes have each route set, and what their agents have observed of its slices."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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

    def has_set(self, route_set: str) -> bool:
        return any(each.name == route_set for each in self.overlay.route_sets or ())

    def has_observed(self, route_set: str, slice_name: str, generation: int) -> bool:
        """Return whether the agent uses this generation of a slice or a later one, or need not be waited for.

        A generation counts only in a report about the present spec with the set: a slice that was deleted and created
        again begins at 1. The agent of an earlier version does not read slices.
        """
        if not self.has_set(route_set):
            return False
        if self.silent:
            return True
        observed = self.overlay.report.observed_slices
        return self.overlay.is_current and (observed is None or observed.get(slice_name, 0) >= generation)


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


class SetUserIndex:
    """The nodes of each set, updated with each NodeOverlayIp. ``find_user`` returns None for a node that is gone."""

    def __init__(self, find_user: Callable[[str], SetUser | None]) -> None:
        self._find_user = find_user
        self._nodes: dict[str, dict[str, None]] = {}
        self._sets: dict[str, tuple[NamedSet, ...]] = {}
        self.latest_since: datetime | None = None

    def update(self, node: str, overlay: NodeOverlay | None) -> None:
        """Replace what is known about the NodeOverlayIp of ``node``; None: it does not exist any more."""
        before = self._sets.get(node, ())
        after = (overlay.route_sets if overlay is not None else None) or ()
        if before == after:
            return
        for each in before:
            self._nodes[each.name].pop(node, None)
        for each in after:
            self._nodes.setdefault(each.name, {})[node] = None
            if each.since is not None and (self.latest_since is None or each.since > self.latest_since):
                self.latest_since = each.since
        for each in before:
            if not self._nodes[each.name]:
                del self._nodes[each.name]
        if after:
            self._sets[node] = after
        else:
            self._sets.pop(node, None)

    def count(self, route_set: str) -> int:
        return len(self._nodes.get(route_set, ()))

    def users(self, route_set: str) -> Iterator[SetUser]:
        for name in tuple(self._nodes.get(route_set, ())):
            user = self._find_user(name)
            if user is not None:
                yield user
