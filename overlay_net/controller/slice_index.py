"""The watched OverlayRouteSlices by route set."""

from collections.abc import Mapping

from overlay_net.model.route_slice import RouteSlice
from overlay_net.runtime.store import Store


class SliceIndex:
    """Follows the store: each plan of each node looks up the slices of a few sets among thousands."""

    def __init__(self, slices: Store[RouteSlice]) -> None:
        self._by_set: dict[str, dict[int, RouteSlice]] = {}
        slices.subscribe(self._slice_changed)

    @property
    def by_set(self) -> Mapping[str, Mapping[int, RouteSlice]]:
        """All slices by set and index."""
        return self._by_set

    def _slice_changed(self, _: str, old: RouteSlice | None, new: RouteSlice | None) -> None:
        if old is not None:
            self._remove(old)
        if new is not None and new.is_member:
            self._by_set.setdefault(new.route_set, {})[new.index] = new

    def _remove(self, each: RouteSlice) -> None:
        present = self._by_set.get(each.route_set, {})
        present.pop(each.index, None)
        if not present:
            self._by_set.pop(each.route_set, None)
