"""Which entries of the earlier operator the status of a StaticRoute must keep, from the caches."""

from collections.abc import Collection, Mapping

from overlay_net.controller.caches import Caches
from overlay_net.domain.routes.takeover import find_unhanded
from overlay_net.model.adoptable_route import AdoptableRoute, EarlierEntry
from overlay_net.model.static_route import StaticRoute


class TakeoverProofs:
    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._adoptable: dict[str, tuple[tuple[AdoptableRoute, ...], frozenset[AdoptableRoute]]] = {}
        """By node: ``spec.adoptable``, and the same as a set."""

    def unhanded(self, route: StaticRoute) -> Mapping[str, EarlierEntry]:
        """Return the entries that stay in the status, by node."""
        if not route.earlier:
            return {}
        nodes = [name for name in route.earlier if self._has_agent(name)]
        return find_unhanded(route, nodes, {name: self._find_adoptable(name) for name in nodes})

    def is_needed(self, route: StaticRoute) -> bool:
        """Return whether a node with an object lacks the proof that the StaticRoute has."""
        found = (self._caches.overlays.get(name) for name in self.unhanded(route))
        return any(overlay is not None and not overlay.deleting for overlay in found)

    def _has_agent(self, name: str) -> bool:
        node = self._caches.nodes.get(name)
        return node is not None and self._caches.has_agent(node)

    def _find_adoptable(self, name: str) -> Collection[AdoptableRoute]:
        overlay = self._caches.overlays.get(name)
        if overlay is None or not overlay.adoptable:
            self._adoptable.pop(name, None)
            return ()
        known = self._adoptable.get(name)
        if known is None or known[0] is not overlay.adoptable:
            known = self._adoptable[name] = (overlay.adoptable, frozenset(overlay.adoptable))
        return known[1]
