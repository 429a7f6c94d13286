"""One node: look, plan, apply. The decisions are in domain.node_plan; here is only what touches the world."""

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches, UsedElsewhere
from overlay_net.controller.ipam import Ipam
from overlay_net.controller.node_steps import IpamFailed, NodeSteps, asking, make_owner
from overlay_net.domain.allocation.node_plan import plan_node
from overlay_net.domain.routes.compile import NodeRoutes
from overlay_net.model.errors import (
    AddressTaken,
    AlreadyExists,
    ApiError,
    Conflict,
    CredentialsRefused,
    Exhausted,
    Refused,
    Unavailable,
)
from overlay_net.model.node_actions import (
    DropFinalizer,
    FindReservations,
    LifecyclePolicy,
    NodePlan,
    NodeView,
    Quarantine,
    Release,
    Reserve,
)
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

MAX_LOOKS = 8
"""Looks in one reconciliation; a node that needs more is put back into the queue."""

SPREAD = 1.0
"""Seconds over which the nodes that wait for one IPAM come back."""


def _wait(plan: NodePlan) -> Requeue | None:
    return Requeue(plan.requeue_after.total_seconds()) if plan.requeue_after is not None else None


def describe_failure(error: ApiError) -> tuple[str, str]:
    """Reason and message of a condition for an IPAM that does not answer as it should."""
    match error:
        case CredentialsRefused():
            return "CredentialsRefused", str(error)
        case Unavailable():
            return "IpamUnavailable", str(error)
        case _:
            return "IpamRefused", str(error)


class NodeReconciler:
    """Two entrances for one plan: ``reconcile`` never waits for an IPAM; what needs one goes to ``reconcile_address``.

    So nodes whose address stands are served at once however slow the IPAM is.
    """

    def __init__(
        self,
        api: KubeApi,
        ipam: Ipam,
        caches: Caches,
        cluster: str,
        policy: LifecyclePolicy,
        events: EventRecorder,
        hand_over: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._steps = NodeSteps(api, ipam, cluster, events)
        self._ipam = ipam
        self._caches = caches
        self._cluster = cluster
        self._policy = policy
        self._hand_over = hand_over
        self._now = now
        # Nodes whose object may not show what the IPAM has: a plan for them ended on the way, or the audit says so.
        self._unsure: set[str] = set()

    def doubt(self, name: str) -> None:
        """Ask the IPAM about this node at its next turn, though its object looks settled."""
        self._unsure.add(name)
        self._hand_over(name)

    async def reconcile(self, name: str) -> Requeue | None:
        """Everything of node ``name`` that needs no IPAM."""
        if not self._caches.synced:
            return Requeue(1)
        view = self._look(name)
        plan = plan_node(view, self._policy)
        try:
            for action in plan.actions:
                if isinstance(action, FindReservations):
                    self._hand_over(name)
                else:
                    await self._steps.apply(view, action)
        except (Conflict, AlreadyExists) as error:
            # Somebody was faster, and the watch will tell what.
            log.debug("looked too early: %s", error, extra={"node": name})
            return Requeue()
        return _wait(plan)

    async def reconcile_address(self, name: str) -> Requeue | None:
        """What needs the IPAM: bring the reservations of node ``name`` and its object together.

        Raises Refused, and Unavailable where it came without a time to wait.
        """
        if not self._caches.synced:
            return Requeue(1)
        try:
            again = await self._converge(name)
        except Conflict as error:
            log.debug("looked too early: %s", error, extra={"node": name})
            self._unsure.add(name)
            return Requeue()
        except IpamFailed as failure:
            self._unsure.add(name)
            await self._tell(name, failure.error)
            wait = failure.error.retry_after if isinstance(failure.error, Unavailable) else None
            if wait is None:
                raise failure.error from None
            return Requeue(wait + random.uniform(0, SPREAD))
        except BaseException:
            self._unsure.add(name)
            raise
        self._unsure.discard(name)
        return again

    async def _tell(self, name: str, error: Unavailable | Refused) -> None:
        view = replace(self._look(name), ipam_failure=describe_failure(error))
        try:
            for action in plan_node(view, self._policy).actions:
                await self._steps.apply(view, action)
        except Conflict:
            # The next try says it.
            return

    async def _converge(self, name: str) -> Requeue | None:
        view = self._look(name)
        for _ in range(MAX_LOOKS):
            plan = plan_node(view, self._policy)
            if FindReservations() in plan.actions:
                view = await self._look_up(view)
                continue
            try:
                if any(isinstance(action, DropFinalizer) for action in plan.actions):
                    await self._steps.confirm_gone(view)
                reserved = [await self._steps.apply(view, action) for action in plan.actions]
            except Exhausted:
                view = replace(view, exhausted=True)
                continue
            except AddressTaken as error:
                requested = {
                    action.requested for action in plan.actions if isinstance(action, Reserve) and action.requested
                }
                holders = dict.fromkeys(requested, error.holder) if error.holder else {}
                view = replace(view, taken=view.taken | requested, holders={**view.holders, **holders})
                continue
            if any(isinstance(action, DropFinalizer) for action in plan.actions):
                return None
            fresh = tuple(replace(reservation, fresh=True) for reservation in reserved if reservation is not None)
            if fresh:
                # What the IPAM has after the write: it was read back there.
                records = {reservation.record for reservation in fresh}
                others = tuple(each for each in view.reservations or () if each.record not in records)
                view = replace(self._look(name), reservations=(*others, *fresh))
            elif any(isinstance(action, Release | Quarantine) for action in plan.actions):
                view = await self._look_up(self._look(name))
            else:
                return _wait(plan)
        return Requeue(1)

    async def _look_up(self, view: NodeView) -> NodeView:
        address = view.overlay.assignment.address if view.overlay else None
        with asking():
            found = await self._ipam.find(make_owner(view, self._cluster), address.ip if address else None)
        return replace(self._look(view.name), reservations=found)

    def _look(self, name: str) -> NodeView:
        node, overlay = self._caches.nodes.get(name), self._caches.overlays.get(name)
        gateway = overlay.assignment.gateway if overlay and self._policy.overlay_addresses else None
        compiled = self._caches.compile_routes_for(node, overlay, gateway) if node else NodeRoutes()
        return NodeView(
            name=name,
            node=node,
            overlay=overlay,
            used_elsewhere=UsedElsewhere(self._caches.known_addresses, name),
            routes=compiled.routes,
            generations=compiled.generations,
            pools=self._caches.pools_in_order(),
            now=self._now(),
            check_ipam=name in self._unsure or (overlay is not None and self._caches.has_unexpected_records(overlay)),
        )
