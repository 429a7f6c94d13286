"""Counts nodes whose address is in use although its reservation has a problem, for metrics and alerts."""

from collections import Counter
from collections.abc import Iterable, Mapping

from overlay_net.model.overlay import NodeOverlay


def count_failed_reservations(overlays: Iterable[NodeOverlay]) -> Mapping[str, int]:
    """Return the number of nodes that have an address and ``Reserved=False``, by reason."""
    return Counter(
        reserved.reason
        for overlay in overlays
        if (reserved := overlay.assignment.reserved) is not None
        and reserved.status is False
        and overlay.assignment.address is not None
        and not overlay.deleting
    )
