"""How many addresses nodes have given up because of each host on the link, as reported by the watch."""

from collections import Counter

from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store


class ConflictCounts:
    """Follows the store: behind a router that answers for every address, each plan of each node reads a count."""

    def __init__(self, overlays: Store[NodeOverlay]) -> None:
        self._counts: Counter[str] = Counter()
        """By the MAC of the host; without zeros."""
        overlays.subscribe(self._overlay_changed)

    def count(self, mac: str) -> int:
        """Return how many addresses of all nodes were given up in a row because of the host with this MAC."""
        return self._counts[mac]

    def _overlay_changed(self, _: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        if old is not None:
            self._add(old, -1)
        if new is not None:
            self._add(new, 1)

    def _add(self, overlay: NodeOverlay, sign: int) -> None:
        mac, conflicts = overlay.assignment.last_conflict_mac, overlay.assignment.consecutive_conflicts
        if not mac or not conflicts:
            return
        self._counts[mac] += sign * conflicts
        if not self._counts[mac]:
            del self._counts[mac]
