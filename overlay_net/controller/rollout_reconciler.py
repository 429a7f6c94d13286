"""Admits the next nodes of each StaticRoute with a staged rollout."""

from collections.abc import Callable

from overlay_net.controller.caches import Caches
from overlay_net.controller.status_feed import StatusFeed
from overlay_net.domain.routes.protected_subnets import refusal
from overlay_net.domain.routes.rollout import admit
from overlay_net.model.route_probe import Revision
from overlay_net.runtime.worker import Requeue


class RolloutReconciler:
    """The keys are names of StaticRoutes. ``wake`` is called with the name of each node that is admitted."""

    def __init__(self, caches: Caches, feed: StatusFeed, wake: Callable[[str], None]) -> None:
        self._caches = caches
        self._feed = feed
        self._wake = wake
        self._revisions: dict[str, Revision] = {}
        """The revision in ``caches.admitted`` of each StaticRoute."""

    async def reconcile(self, name: str) -> Requeue | None:
        """Admit the next nodes of one StaticRoute."""
        # Otherwise nodes that are not counted yet would not count as unavailable.
        await self._feed.filled.wait()
        route = self._caches.routes.get(name)
        before = self._revisions.pop(name, None)
        admitted = self._caches.admitted.pop(before, frozenset()) if before is not None else frozenset()
        if route is None or route.rollout is None or route.deleting:
            return None
        if before != route.revision:
            admitted = frozenset()
        self._revisions[name] = route.revision
        if refusal(route, self._caches.protection) is not None:
            self._caches.admitted[route.revision] = frozenset()
            return None
        after = self._caches.admitted[route.revision] = admit(self._feed.index, route, route.rollout, admitted)
        for node in after - admitted:
            self._wake(node)
        return None
