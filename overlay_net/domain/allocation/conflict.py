"""Handles address conflicts (RFC 5227): another host on the link uses the address assigned to a node.

The agent probes for conflicts before it configures the address, so the node has never answered for it. A router that
answers for every address (proxy ARP) would cost the pool one address after the other, so the nodes that it stops keep
theirs and wait.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from overlay_net.model.node_actions import NodeView
from overlay_net.model.overlay import Assignment, NodeOverlay

QUARANTINE_TIME = timedelta(hours=1)
"""How long an address in conflict is not assigned to any node."""

CONFLICT_PAUSE, CONFLICT_PAUSE_MAX = timedelta(seconds=10), timedelta(minutes=10)
"""Pause between two renumberings of a node after conflicts, doubled each time, so that conflicts cannot exhaust the
pool quickly."""

MAX_CONFLICTS_WITH_ONE_HOST = 3
"""Number of addresses, of all nodes, after which a host counts as a router that answers for every address."""

PROXY_ARP = "ProxyARP"


def in_conflict(overlay: NodeOverlay) -> bool:
    """Return whether another host uses the assigned address. A pinned address is kept despite a conflict."""
    address = overlay.assignment.address
    if address is None or not overlay.has_own_report:
        return False
    return overlay.report.conflict == address.ip and overlay.pin != address.ip


def is_proxy_arp(view: NodeView, overlay: NodeOverlay) -> bool:
    """Return whether the host in conflict answers for every address, so another address would not help."""
    mac = overlay.report.conflict_mac
    return in_conflict(overlay) and mac != "" and view.conflicts_with(mac) >= MAX_CONFLICTS_WITH_ONE_HOST


def proxy_arp_message(overlay: NodeOverlay) -> str:
    address = overlay.assignment.address
    return (
        f"a router answers for every address (MAC {overlay.report.conflict_mac}); {address.ip if address else ''} is "
        "kept and not configured; disable proxy ARP on that router for the subnet of the pool, or set "
        "agent.settings.duplicate_detection=false; if it is a host with several addresses, add them to spec.exclude "
        "of the pool and delete this object"
    )


def with_conflict_history(overlay: NodeOverlay, assignment: Assignment, now: datetime) -> Assignment:
    """Return ``assignment``, the next one of this object, with the conflicts that led to it."""
    before, report = overlay.assignment, overlay.report
    same = before.address is not None and assignment.address is not None and before.address.ip == assignment.address.ip
    if before.address is not None and not same and in_conflict(overlay):
        repeated = report.conflict_mac != "" and report.conflict_mac == before.last_conflict_mac
        return replace(
            assignment,
            conflicts=before.conflicts + 1,
            last_conflict=now,
            last_conflict_mac=report.conflict_mac,
            consecutive_conflicts=before.consecutive_conflicts + 1 if repeated else 1,
        )
    assignment = replace(assignment, conflicts=before.conflicts, last_conflict=before.last_conflict)
    if same and uses_assigned_address(overlay):
        return assignment
    return replace(
        assignment,
        last_conflict_mac=before.last_conflict_mac,
        consecutive_conflicts=before.consecutive_conflicts,
    )


def uses_assigned_address(overlay: NodeOverlay) -> bool:
    """Return whether the agent has configured the address, which ends a series of conflicts."""
    return overlay.report.configured == overlay.assignment.address and not in_conflict(overlay)


def uses_no_other_address(overlay: NodeOverlay) -> bool:
    """Return whether the agent has no overlay address because another host uses the one in the object, even pinned.

    It may configure that one at any time, if the other host stops using it.
    """
    report, address = overlay.report, overlay.assignment.address
    in_use = address is not None and report.conflict == address.ip
    return in_use and report.configured is None and overlay.is_current


def conflict_pause(view: NodeView, overlay: NodeOverlay) -> timedelta:
    """Return how long to wait before this node may be renumbered again after a conflict."""
    last, count = overlay.assignment.last_conflict, overlay.assignment.conflicts
    if last is None or not count:
        return timedelta()
    pause = min(CONFLICT_PAUSE * (1 << (min(count, 10) - 1)), CONFLICT_PAUSE_MAX)
    return pause - view.elapsed("Conflict", (overlay.uid, last, count))
