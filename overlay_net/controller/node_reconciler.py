"""Reconciles one node: observe, plan, apply. All decisions are in domain.allocation.node_plan."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from types import MappingProxyType

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam import describe_failure
from overlay_net.controller.ipam_checks import IpamChecks
from overlay_net.controller.ipam_router import IpamRouter
from overlay_net.controller.known_addresses import UsedElsewhere
from overlay_net.controller.node_steps import IpamFailed, NodeSteps
from overlay_net.controller.observed_times import ObservedTimes
from overlay_net.domain.allocation.node_plan import plan_node
from overlay_net.model.errors import AddressTaken, AlreadyExists, Conflict, Exhausted, Refused, Unavailable
from overlay_net.model.ipam import Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import (
    DropFinalizer,
    FindReservations,
    LifecyclePolicy,
    NodePlan,
    NodeRoutes,
    NodeView,
    Quarantine,
    Release,
    Reserve,
)
from overlay_net.model.overlay import NodeOverlay
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

MAX_PASSES = 8
"""Maximum number of plans in one reconciliation; a node that needs more is requeued."""

SPREAD = 1.0
"""Seconds over which the retries of nodes that wait for the same IPAM are spread."""

STALE_VIEW = (Conflict, AlreadyExists)
"""Another writer has changed or created the object, and the cache does not have the change yet."""


class NodeReconciler:
    """Two entry points to one plan: ``reconcile`` never waits for an IPAM, ``reconcile_address`` queries it.

    A slow IPAM therefore does not delay nodes whose address is settled.
    """

    def __init__(
        self,
        api: KubeApi,
        ipam: IpamRouter,
        caches: Caches,
        cluster: str,
        policy: LifecyclePolicy,
        events: EventRecorder,
        checks: IpamChecks,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ipams = ipam.names
        self._cluster = cluster
        self._steps = NodeSteps(api, ipam, cluster, events, caches, checks)
        self._caches = caches
        self._policy = policy
        self._checks = checks
        self._now = now
        self._times = ObservedTimes(caches, clock)

    async def reconcile(self, name: str) -> Requeue | None:
        """Carry out all steps for node ``name`` that do not need the IPAM."""
        if not self._caches.synced:
            return Requeue(1)
        view = self._view(name)
        plan = plan_node(view, self._policy)
        try:
            for action in plan.actions:
                if isinstance(action, FindReservations):
                    self._checks.enqueue(name)
                else:
                    await self._steps.apply(view, action)
        except STALE_VIEW as error:
            log.debug("stale view", extra={"node": name, "error": str(error)})
            return Requeue()
        return _requeue(plan)

    async def reconcile_address(self, name: str) -> Requeue | None:
        """Carry out the steps that need the IPAM: reconcile the reservations of node ``name`` with its object.

        Raises Refused, and Unavailable unless the IPAM requested a certain delay.
        """
        if not self._caches.synced:
            return Requeue(1)
        try:
            with self._checks.attempt(name):
                return await self._converge(name)
        except STALE_VIEW as error:
            log.debug("stale view", extra={"node": name, "error": str(error)})
            return Requeue()
        except IpamFailed as failure:
            await self._report_failure(name, failure.error)
            wait = failure.error.retry_after if isinstance(failure.error, Unavailable) else None
            if wait is None:
                raise failure.error from None
            return Requeue(wait + random.uniform(0, SPREAD))

    async def _report_failure(self, name: str, error: Unavailable | Refused) -> None:
        view = replace(self._view(name), ipam_failure=describe_failure(error))
        try:
            for action in plan_node(view, self._policy).actions:
                await self._steps.apply(view, action)
        except STALE_VIEW:
            # The next attempt reports it.
            return

    async def _converge(self, name: str) -> Requeue | None:
        view = self._view(name)
        if self._checks.cache_suffices(name, view.overlay):
            # No plan is needed to see that these cost no request.
            view = await self._find(view)
        for _ in range(MAX_PASSES):
            plan = plan_node(view, self._policy)
            following = await self._carry_out(view, plan)
            if following is None:
                return _requeue(plan)
            view = following
        return Requeue(1)

    async def _carry_out(self, view: NodeView, plan: NodePlan) -> NodeView | None:
        """Apply the plan. Returns the view for the next plan, or None if the IPAM has nothing new for this node."""
        if FindReservations() in plan.actions:
            # The object's own steps in this plan are carried out by ``reconcile``.
            return await self._find(view)
        try:
            results = [await self._steps.apply(view, action) for action in plan.actions]
        except Exhausted:
            return replace(view, exhausted=True)
        except AddressTaken as error:
            return _exclude_requested(view, plan, error)
        if DropFinalizer() in plan.actions:
            return None
        written = [reservation for reservation in results if reservation is not None]
        if written:
            return self._with_written(view, written)
        if any(isinstance(action, Release | Quarantine) for action in plan.actions):
            return await self._find(self._view(view.name))
        return None

    async def _find(self, view: NodeView) -> NodeView:
        return self._view(view.name, await self._steps.find(view))

    def _with_written(self, view: NodeView, written: Iterable[Reservation]) -> NodeView:
        """Update the view with the answers to the writes, so that the IPAM need not be queried again."""
        fresh = {reservation.record: replace(reservation, fresh=True) for reservation in written}
        others = (each for each in view.reservations or () if each.record not in fresh)
        reservations = (*others, *fresh.values())
        return self._view(view.name, reservations, view.taken, view.holders)

    def _view(
        self,
        name: str,
        reservations: tuple[Reservation, ...] | None = None,
        taken: frozenset[IpAddress] = frozenset(),
        holders: Mapping[IpAddress, str] = MappingProxyType({}),
    ) -> NodeView:
        node, overlay = self._caches.nodes.get(name), self._caches.overlays.get(name)
        if node is not None and not self._caches.has_agent(node):
            node = None
        reports, now = self._caches.slice_reports, self._now()
        return NodeView(
            name=name,
            node=node,
            overlay=overlay,
            find_routes=cache(partial(self._find_routes, node, overlay, now)),
            has_observed_slices=lambda: overlay is not None and reports.has_observed(overlay),
            find_removals=lambda sets: reports.find_removals(overlay, sets) if overlay is not None else (),
            find_static_routes=reports.find_static_routes,
            find_holder=self._caches.find_holder,
            address_needed=node is None and self._caches.demand.is_needed(name),
            used_elsewhere=UsedElsewhere(self._caches.known_addresses, name),
            agent_silent_for=self._caches.silent_agents.get(name),
            conflicts_with=self._caches.count_conflicts_with,
            pools=self._caches.pools_in_order(),
            now=now,
            cluster=self._cluster,
            ipams=self._ipams,
            reservations=reservations,
            check_ipam=self._checks.needed(name),
            taken=taken,
            holders=holders,
            elapsed=partial(self._times.elapsed, name),
        )

    def _find_routes(self, node: Node | None, overlay: NodeOverlay | None, now: datetime) -> NodeRoutes:
        return self._caches.find_routes_for(node, overlay, now) if node is not None else NodeRoutes()


def _requeue(plan: NodePlan) -> Requeue | None:
    return Requeue(plan.requeue_after.total_seconds()) if plan.requeue_after is not None else None


def _exclude_requested(view: NodeView, plan: NodePlan, error: AddressTaken) -> NodeView:
    """Return the view after the IPAM refused the address that the plan requested."""
    requested = {action.requested for action in plan.actions if isinstance(action, Reserve) and action.requested}
    holders = dict.fromkeys(requested, error.holder) if error.holder else {}
    return replace(view, taken=view.taken | requested, holders={**view.holders, **holders})
