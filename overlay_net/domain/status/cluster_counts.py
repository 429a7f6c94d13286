"""Counts over all nodes and their NodeOverlayIps, for metrics."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from overlay_net.model.conditions import AGENT_STALE, READY, find_condition
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay

NODE_STATES = ("ready", "not_ready", "without_address", "gone")


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    nodes: Mapping[str, int]
    """Number of nodes in each of NODE_STATES."""
    routes: Mapping[str, int]
    """Number of desired, programmed and failed routes of all nodes."""
    address_conflicts: int
    """Number of nodes whose agent reports that another host uses the assigned address."""
    silent_agents: int
    """Number of nodes that are ``Ready=Unknown`` because their agent is silent."""
    waiting_since: datetime | None
    """The time since which the longest waiting node has no address."""


def count_cluster(nodes: Iterable[Node], overlays: Iterable[NodeOverlay]) -> ClusterCounts:
    by_name = {overlay.name: overlay for overlay in overlays}
    states: Counter[str] = Counter()
    routes: Counter[str] = Counter()
    waiting: list[datetime] = []
    address_conflicts = silent_agents = 0
    for node in nodes:
        overlay = by_name.pop(node.name, None)
        states[_state(node, overlay)] += 1
        since = _waiting_since(node, overlay)
        if since is not None:
            waiting.append(since)
        if overlay is not None:
            address_conflicts += overlay.report.conflict is not None
            unknown = overlay.assignment.ready
            silent_agents += unknown is not None and unknown.reason == AGENT_STALE
            # A node does not need a route whose gateway it is itself.
            routes["desired"] += overlay.report.routes_desired if overlay.is_current else len(overlay.routes)
            routes["programmed"] += overlay.report.routes_ready
            routes["failed"] += overlay.report.routes_failed
    states["gone"] = len(by_name)
    return ClusterCounts(
        {state: states[state] for state in NODE_STATES},
        {state: routes[state] for state in ("desired", "programmed", "failed")},
        address_conflicts,
        silent_agents,
        min(waiting, default=None),
    )


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
