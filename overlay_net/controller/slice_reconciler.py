"""Keeps the OverlayRouteSlices as the StaticRoutes require; domain.routes.slice_plan decides.

The first change is written at once. Later ones are collected while it is written, and for a time that grows with the
number of nodes, because each of them reads the slice and reports.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.controller.slice_steps import write_slice
from overlay_net.domain.routes.protected_subnets import Decided
from overlay_net.domain.routes.slice_plan import SlicePlan, SlicePlanner
from overlay_net.model.errors import AlreadyExists, Conflict, OverlayNetError
from overlay_net.model.names import OVERLAY_ROUTE_SLICES
from overlay_net.runtime.offload import offload
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

MAX_PASSES = 4
"""Maximum number of plans in one reconciliation: slices are written before the first one lists them."""

VALUES_PER_ROUTE = 10
"""What a plan computes for each StaticRoute, as a size for ``offload``: 500 of them take 5 to 25 ms."""

SECONDS_PER_NODE = 0.0002
LONGEST_PAUSE = 1.0
"""In seconds, between two writes of slices."""


class SliceReconciler:
    def __init__(
        self,
        api: KubeApi,
        caches: Caches,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        seconds_per_node: float = SECONDS_PER_NODE,
    ) -> None:
        self._api = api
        self._caches = caches
        self._now = now
        self._clock = clock
        self._seconds_per_node = seconds_per_node
        self._planner = SlicePlanner()

    async def prepare(self) -> None:
        """Publish which sets nodes may name, before the first node is reconciled. The queue retries what fails.

        The watch may not have the last writes of the previous leader yet, and the first plan takes the layout from the
        slices.
        """
        try:
            for raw in (await self._api.list(OVERLAY_ROUTE_SLICES)).items:
                self._caches.slices.add_written(raw)
            await self.reconcile("")
        except OverlayNetError as error:
            log.warning("cannot write the route slices yet", extra={"error": str(error)})

    async def reconcile(self, _: str) -> Requeue | None:
        """Write the slices that differ, and publish which sets nodes may name. Raises ApiError."""
        if not self._caches.synced:
            return Requeue(1)
        wrote = False
        for _pass in range(MAX_PASSES):
            decisions = self._caches.route_sets.decisions
            plan = await self._plan()
            self._caches.route_sets.replace(plan.sets, decisions)
            if not plan.steps:
                break
            try:
                await self._write(plan)
            except (Conflict, AlreadyExists):
                # Another process has changed a slice, or the watch is late.
                return Requeue()
            wrote = True
        else:
            return Requeue()
        if wrote:
            await asyncio.sleep(min(LONGEST_PAUSE, self._seconds_per_node * len(self._caches.overlays)))
        return Requeue(plan.again_after.total_seconds()) if plan.again_after is not None else None

    async def _plan(self) -> SlicePlan:
        caches = self._caches
        routes = tuple(caches.routes.values())
        # A thread must not read what the event loop changes.
        check = Decided({route.name: caches.protection.refusal(route) for route in routes})
        slices = {each.name: each for each in caches.slices.values()}
        arguments = (routes, check, slices, caches.set_users, self._now(), self._clock())
        # What was withdrawn is forgotten once all nodes have observed it.
        size = len(routes) * VALUES_PER_ROUTE + len(caches.overlays)
        return await offload(size, self._planner.plan, *arguments)

    async def _write(self, plan: SlicePlan) -> None:
        for step in plan.steps:
            for write in step:
                written = await write_slice(self._api, write)
                if written is not None:
                    self._caches.slices.add_written(written)
