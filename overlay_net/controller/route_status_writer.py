"""Writes the status of StaticRoutes, and remembers what was written until the watch reports it."""

from collections.abc import Iterable
from dataclasses import dataclass

from overlay_net.adapters.kube import KubeApi, apply_owned
from overlay_net.domain.status.static_route_counts import PROGRESSING
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import READY, Condition, find_condition, parse_conditions
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, FINALIZER, STATIC_ROUTES
from overlay_net.model.static_route import ROUTE_STATUS_FIELDS, StaticRoute, digest_status
from overlay_net.ops.events import EventRecorder


@dataclass(frozen=True, slots=True)
class PresentStatus:
    """What is known of the status that the API server has."""

    version: str
    """The resourceVersion in the cache. After a write: as long as the cache has it, it lacks the write."""
    digest: str
    conditions: tuple[Condition, ...]


class RouteStatusWriter:
    def __init__(self, api: KubeApi, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self._written: dict[str, PresentStatus] = {}

    def present(self, route: StaticRoute) -> PresentStatus:
        """Return the present status: the cache may not have the last write yet."""
        written = self._written.get(route.name)
        if written is not None and written.version == route.resource_version:
            return written
        return PresentStatus(route.resource_version, route.status_digest, route.conditions)

    def is_written(self, route: StaticRoute) -> bool:
        """Return whether the StaticRoute has the status that was written last."""
        written = self._written.get(route.name)
        return written is not None and written.digest == route.status_digest

    def forget(self, name: str) -> None:
        """Forget what was written: the StaticRoute is gone, or it is not known whether the write has succeeded."""
        self._written.pop(name, None)

    async def write(self, route: StaticRoute, status: JsonObject) -> None:
        """Write the status of ``route``, and an event if it has a problem that it has not had before."""
        before, conditions = self.present(route).conditions, parse_conditions(status)
        # Before the write: the watch may report it before the response has arrived.
        self._written[route.name] = PresentStatus(route.resource_version, digest_status(status), conditions)
        body = STATIC_ROUTES.manifest(route.name, uid=route.uid, status=status)
        await apply_owned(
            self._api,
            STATIC_ROUTES,
            body,
            field_manager=CONTROLLER_FIELD_MANAGER,
            owned=ROUTE_STATUS_FIELDS,
            subresource="status",
        )
        self._announce(route, before, conditions)

    async def release(self, route: StaticRoute) -> None:
        """Remove the finalizer of a StaticRoute that is being deleted, which the earlier operator has set.

        Nodes remove the route once their slices lack it.
        """
        others = [finalizer for finalizer in route.finalizers if finalizer != FINALIZER]
        change = {"metadata": {"resourceVersion": route.resource_version, "finalizers": others}}
        await self._api.merge_patch(STATIC_ROUTES, route.name, change)

    def _announce(self, route: StaticRoute, was: Iterable[Condition], now: Iterable[Condition]) -> None:
        before, ready = find_condition(was, READY), find_condition(now, READY)
        if ready is None or ready.status is not False or ready.reason in PROGRESSING:
            return
        if before is None or _identity(before) != _identity(ready):
            self._events.emit(STATIC_ROUTES, route.name, route.uid, ready.reason, ready.message, warning=True)


def _identity(condition: Condition) -> tuple[str, int]:
    return condition.reason, condition.observed_generation
