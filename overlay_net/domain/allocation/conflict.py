"""Handles address conflicts (RFC 5227): another host on the link uses the address assigned to a node.

The agent probes for conflicts before it configures the address, so the node has never answered for it.
"""

from datetime import datetime, timedelta

from overlay_net.model.overlay import NodeOverlay

QUARANTINE_TIME = timedelta(hours=1)
"""How long an address in conflict is not assigned to any node."""

CONFLICT_PAUSE, CONFLICT_PAUSE_MAX = timedelta(seconds=10), timedelta(minutes=10)
"""Pause between two renumberings of a node after conflicts, doubled each time, so that a host that answers for every
address (proxy ARP) cannot exhaust the pool."""


def in_conflict(overlay: NodeOverlay) -> bool:
    """Return whether another host uses the assigned address. A pinned address is kept despite a conflict."""
    address = overlay.assignment.address
    return address is not None and overlay.report.conflict == address.ip and overlay.pin != address.ip


def conflict_pause(overlay: NodeOverlay, now: datetime) -> timedelta:
    """Return how long to wait before this node may be renumbered again after a conflict."""
    last, count = overlay.assignment.last_conflict, overlay.assignment.conflicts
    if last is None or not count:
        return timedelta()
    pause = min(CONFLICT_PAUSE * (1 << (min(count, 10) - 1)), CONFLICT_PAUSE_MAX)
    return last + pause - now
