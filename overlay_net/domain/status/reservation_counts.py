"""Counts nodes whose address is in use but has a problem, for metrics and alerts."""

from collections import Counter
from collections.abc import Iterable, Mapping

from overlay_net.model.conditions import Condition
from overlay_net.model.overlay import NodeOverlay


def count_failed_reservations(overlays: Iterable[NodeOverlay]) -> Mapping[str, int]:
    """Return the number of nodes that have an address and ``Reserved=False``, by reason."""
    return _count_false((overlay, overlay.assignment.reserved) for overlay in overlays)


def count_outdated_nodes(overlays: Iterable[NodeOverlay]) -> Mapping[str, int]:
    """Return the number of nodes that have an address and ``UpToDate=False``, by reason."""
    return _count_false((overlay, overlay.assignment.up_to_date) for overlay in overlays)


def _count_false(found: Iterable[tuple[NodeOverlay, Condition | None]]) -> Mapping[str, int]:
    return Counter(
        condition.reason
        for overlay, condition in found
        if condition is not None
        and condition.status is False
        and overlay.assignment.address is not None
        and not overlay.deleting
    )
