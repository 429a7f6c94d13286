"""How a StaticRoute is doing on all of its nodes: the counts, and the nodes to list.

Nodes that are simply behind, kept back by a rollout or in place are only counted. A node is examined on its own if its
report has anything about the StaticRoute; all nodes are while the StaticRoute is refused, in conflict or moves.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from heapq import merge
from itertools import chain, islice

from overlay_net.domain.routes.node_status import NodeRoute, NodeStatus
from overlay_net.domain.routes.outcome import FAILED, NOT_NEEDED, PENDING, READY, ROLLING_OUT, Outcome
from overlay_net.domain.routes.status_index import StatusIndex
from overlay_net.model.net import IpNetwork
from overlay_net.model.static_route import StaticRoute

NAMED_NODES = 10
"""Maximum number of nodes that a condition names."""

_KINDS = (FAILED, PENDING, ROLLING_OUT, NOT_NEEDED, READY)
"""In the order in which nodes are listed."""


@dataclass(frozen=True, slots=True)
class _Split:
    """The nodes of one StaticRoute."""

    members: Sequence[str]
    """All of them, in order."""
    examined: Mapping[str, Outcome]
    behind: Set[str] = frozenset()
    kept_back: Set[str] = frozenset()
    """Nodes without the set of the StaticRoute."""


class NodeStates:
    def __init__(self, index: StatusIndex, route: StaticRoute, refused: tuple[str, str] | None) -> None:
        self._index = index
        self._node_route = NodeRoute(route, index.occurrences, refused)
        self._split = _split(index, self._node_route)
        self._not_named = ROLLING_OUT if route.rollout is not None else PENDING
        self.counts = self._count()

    @property
    def nodes(self) -> Sequence[str]:
        """All nodes of the StaticRoute, in order."""
        return self._split.members

    @property
    def total(self) -> int:
        return len(self._split.members)

    @property
    def ready(self) -> int:
        return self.counts[READY]

    @property
    def failed(self) -> int:
        return self.counts[FAILED]

    @property
    def not_needed(self) -> int:
        return self.counts[NOT_NEEDED]

    @property
    def needed(self) -> int:
        """The number of nodes that need the route."""
        return self.total - self.not_needed

    @property
    def kept_back(self) -> int:
        """The number of nodes that keep their previous generation for now."""
        return self.counts[ROLLING_OUT]

    @property
    def unavailable(self) -> int:
        """The number of nodes that have the current generation, but not in place."""
        return self.counts[FAILED] + self.counts[PENDING]

    def first(self, count: int, kinds: Iterable[str] = _KINDS) -> list[NodeStatus]:
        """Return the status on the first ``count`` nodes: failing ones first, and those in place last."""
        names = islice(chain.from_iterable(self._names(kind) for kind in kinds), count)
        return [self._node_route.status(self._index.tables[name]) for name in names]

    def conflicts(self) -> Mapping[str, IpNetwork]:
        """Return the first subnet of each older StaticRoute that has the same route."""
        found: dict[str, IpNetwork] = {}
        if self._node_route.conflicts or self._index.reported.earlier:
            for _, outcome in sorted(self._split.examined.items(), key=lambda item: item[0]):
                if outcome.conflict is not None:
                    found.setdefault(*outcome.conflict)
        return found

    def has(self, node: str) -> bool:
        """Return whether the StaticRoute applies to a node."""
        examined = self._split.examined
        if self._node_route.refused is not None:
            return node in examined
        return node in examined or self._index.is_member(node, self._index.find_members(self._node_route.route))

    def names_in_place(self) -> Iterator[str]:
        return self._names(READY)

    def names_kept_back(self) -> Iterator[str]:
        return self._names(ROLLING_OUT)

    def _count(self) -> Counter[str]:
        split = self._split
        counts = Counter(_kind(outcome) for outcome in split.examined.values())
        behind, kept_back = (_count_unexamined(nodes, split.examined) for nodes in (split.behind, split.kept_back))
        counts[PENDING] += behind
        counts[self._not_named] += kept_back
        counts[READY] += len(split.members) - len(split.examined) - behind - kept_back
        return counts

    def _names(self, kind: str) -> Iterator[str]:
        """Yield the nodes of one kind, in order."""
        split = self._split
        examined = sorted(name for name, outcome in split.examined.items() if _kind(outcome) == kind)
        if len(examined) == self.counts[kind]:
            return iter(examined)
        others: Iterator[str] = filter(self._is_simply_in_place, split.members)
        if kind != READY:
            behind = split.behind if kind == PENDING else frozenset()
            kept_back = split.kept_back if kind == self._not_named else frozenset()
            others = (name for name in split.members if name in behind or name in kept_back)
        return merge(examined, (name for name in others if name not in split.examined))

    def _is_simply_in_place(self, name: str) -> bool:
        return name not in self._split.behind and name not in self._split.kept_back


def _kind(outcome: Outcome) -> str:
    return ROLLING_OUT if outcome.reason == ROLLING_OUT else outcome.state


def _count_unexamined(nodes: Set[str], examined: Mapping[str, Outcome]) -> int:
    return len(nodes) - sum(name in nodes for name in examined)


def _split(index: StatusIndex, node_route: NodeRoute) -> _Split:
    route = node_route.route
    if route.problem:
        return _Split((), {})
    members, tables = index.find_members(route), index.tables
    occurrence = node_route.only_occurrence
    progress = members.sets[node_route.home].get(occurrence.slice) if occurrence is not None else None
    if occurrence is None or progress is None:
        needed = [name for name in members.nodes if node_route.needed_on(tables[name])]
        return _Split(needed, {name: node_route.outcome(tables[name]) for name in needed})
    reported = index.reported
    candidates = {
        *reported.earlier,
        *reported.unlisted,
        *reported.not_needed[route.name],
        *reported.probing[route.name],
        *chain.from_iterable(reported.failing[key] for key in node_route.keys),
    }
    examined = {name: node_route.outcome(tables[name]) for name in candidates if index.is_member(name, members)}
    return _Split(members.nodes, examined, progress.behind(occurrence.entry.slice_generation), progress.not_named)
