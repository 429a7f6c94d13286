"""Counts over all nodes and their NodeOverlayIps, for metrics; a change of a node costs no fold over all."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from overlay_net.model.conditions import AGENT_STALE, READY, Condition, find_condition
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay

NODE_STATES = ("ready", "not_ready", "without_address", "gone")
ROUTE_STATES = ("desired", "programmed", "failed")


@dataclass(frozen=True, slots=True)
class _NodeCounts:
    """What one node adds to the counts."""

    state: str
    routes: tuple[int, int, int] = (0, 0, 0)
    """In the order of ROUTE_STATES."""
    conflict: bool = False
    silent: bool = False
    waiting_since: datetime | None = None
    failed_reservation: str = ""
    """Reason of ``Reserved=False`` if the node has an address all the same; empty: none."""
    outdated: str = ""
    """Reason of ``UpToDate=False`` if the node has an address; empty: none."""


class ClusterCounts:
    """Fed with each Node that an agent runs on and each NodeOverlayIp."""

    def __init__(self) -> None:
        self._by_node: dict[str, _NodeCounts] = {}
        self._states: Counter[str] = Counter()
        self._routes = [0, 0, 0]
        self._waiting: dict[str, datetime] = {}
        self.address_conflicts = 0
        """Number of nodes whose agent reports that another host uses the assigned address."""
        self.silent_agents = 0
        """Number of nodes that are ``Ready=Unknown`` because their agent is silent."""
        self._failed_reservations: Counter[str] = Counter()
        self._outdated: Counter[str] = Counter()

    def update(self, name: str, node: Node | None, overlay: NodeOverlay | None) -> None:
        """Replace a node; None: it does not exist."""
        before = self._by_node.pop(name, None)
        if before is not None:
            self._add(name, before, -1)
        if node is not None or overlay is not None:
            after = self._by_node[name] = _count(node, overlay)
            self._add(name, after, 1)

    def _add(self, name: str, counts: _NodeCounts, sign: int) -> None:
        self._states[counts.state] += sign
        self._routes = [total + sign * number for total, number in zip(self._routes, counts.routes, strict=True)]
        self.address_conflicts += sign * counts.conflict
        self.silent_agents += sign * counts.silent
        self._failed_reservations[counts.failed_reservation] += sign
        self._outdated[counts.outdated] += sign
        if sign < 0:
            self._waiting.pop(name, None)
        elif counts.waiting_since is not None:
            self._waiting[name] = counts.waiting_since

    @property
    def nodes(self) -> Mapping[str, int]:
        """Number of nodes in each of NODE_STATES."""
        return {state: self._states[state] for state in NODE_STATES}

    @property
    def routes(self) -> Mapping[str, int]:
        """Number of routes of all nodes in each of ROUTE_STATES."""
        return dict(zip(ROUTE_STATES, self._routes, strict=True))

    @property
    def waiting_since(self) -> datetime | None:
        """The time since which the longest waiting node has no address."""
        return min(self._waiting.values(), default=None)

    @property
    def failed_reservations(self) -> Mapping[str, int]:
        """Number of nodes that have an address and ``Reserved=False``, by reason."""
        return _without_none(self._failed_reservations)

    @property
    def outdated_nodes(self) -> Mapping[str, int]:
        """Number of nodes that have an address and ``UpToDate=False``, by reason."""
        return _without_none(self._outdated)


def _count(node: Node | None, overlay: NodeOverlay | None) -> _NodeCounts:
    state, waiting_since = ("gone", None) if node is None else (_state(node, overlay), _waiting_since(node, overlay))
    if overlay is None:
        return _NodeCounts(state, waiting_since=waiting_since)
    report, unknown, exists = overlay.report, overlay.assignment.ready, node is not None
    has_address = overlay.assignment.address is not None and not overlay.deleting
    return _NodeCounts(
        state,
        (_count_desired(overlay), report.routes_ready, report.routes_failed) if exists else (0, 0, 0),
        exists and report.conflict is not None,
        exists and unknown is not None and unknown.reason == AGENT_STALE,
        waiting_since,
        _false_reason(overlay.assignment.reserved) if has_address else "",
        _false_reason(overlay.assignment.up_to_date) if has_address else "",
    )


def _count_desired(overlay: NodeOverlay) -> int:
    """Return the number of routes that the node needs: not those whose gateway it is itself, which its agent knows."""
    # An agent of an earlier version has the routes of the object.
    reported = overlay.is_current or not overlay.has_routes
    return overlay.report.routes_desired if reported else len(overlay.routes)


def _state(node: Node, overlay: NodeOverlay | None) -> str:
    if overlay is None or overlay.assignment.address is None:
        return "without_address"
    ready = find_condition(overlay.report.conditions, READY)
    return "ready" if ready is not None and ready.status and overlay.reports_on(node) else "not_ready"


def _waiting_since(node: Node, overlay: NodeOverlay | None) -> datetime | None:
    if overlay is None:
        return node.created
    if overlay.assignment.address is not None:
        return None
    reserved = overlay.assignment.reserved
    unreserved_since = reserved.last_transition_time if reserved is not None and not reserved.status else None
    return unreserved_since or node.created


def _false_reason(condition: Condition | None) -> str:
    return condition.reason if condition is not None and condition.status is False else ""


def _without_none(counts: Counter[str]) -> Mapping[str, int]:
    return {reason: count for reason, count in counts.items() if reason and count}
