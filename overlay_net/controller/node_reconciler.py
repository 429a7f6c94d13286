"""One node: look, plan, apply. The decisions are in domain.node_plan; here is only what touches the world."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.controller.ports import Ipam
from overlay_net.domain.node_plan import plan_node
from overlay_net.domain.node_routes import compile_routes
from overlay_net.model.api import JsonObject
from overlay_net.model.cluster import (
    Announce,
    ApplyAssignment,
    ApplyOverlay,
    ClusterAction,
    DeleteOverlay,
    DropFinalizer,
    LifeRules,
    LookUp,
    NodePlan,
    NodeView,
    Release,
    Reserve,
)
from overlay_net.model.errors import AddressTaken, Conflict, Exhausted, NotFound
from overlay_net.model.ipam import Owner
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, FINALIZER, NODE_OVERLAY_IPS
from overlay_net.model.overlay import NodeOverlay
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

CATCH_UP = 0.05
"""Seconds for the watch to deliver what a conditional write was too early for."""

MAX_LOOKS = 8
"""Looks in one reconciliation; a node that needs more is put back into the queue."""


def _look_again(plan: NodePlan) -> bool:
    """A plan never uses its own result: what was reserved or released is looked up like anything else."""
    ends = any(isinstance(action, DropFinalizer) for action in plan.actions)
    return not ends and any(isinstance(action, Reserve | Release) for action in plan.actions)


class NodeReconciler:
    def __init__(
        self,
        api: KubeApi,
        ipam: Ipam,
        caches: Caches,
        cluster: str,
        rules: LifeRules,
        events: EventRecorder,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._ipam = ipam
        self._caches = caches
        self._cluster = cluster
        self._rules = rules
        self._events = events
        self._now = now

    async def reconcile(self, name: str) -> Requeue | None:
        """Bring everything of node ``name`` one plan closer; called again for as long as a plan asks for it."""
        if not self._caches.synced:
            return Requeue(1)
        try:
            return await self._converge(name)
        except Conflict as error:
            # Somebody was faster, and the watch will tell what.
            log.debug("looked too early: %s", error, extra={"node": name})
            return Requeue(CATCH_UP)

    async def _converge(self, name: str) -> Requeue | None:
        view = self._look(name)
        for _ in range(MAX_LOOKS):
            plan = plan_node(view, self._rules)
            if plan.actions == (LookUp(),):
                view = replace(self._look(name), reservations=await self._ipam.find(self._owner(view)))
                continue
            try:
                for action in plan.actions:
                    await self._apply(view, action)
            except Exhausted:
                view = replace(view, exhausted=True)
                continue
            except AddressTaken:
                wanted = {action.wanted for action in plan.actions if isinstance(action, Reserve) and action.wanted}
                view = replace(view, taken=view.taken | wanted)
                continue
            if not _look_again(plan):
                return Requeue(plan.look_after.total_seconds()) if plan.look_after is not None else None
            view = replace(self._look(name), reservations=await self._ipam.find(self._owner(view)))
        return Requeue(1)

    def _look(self, name: str) -> NodeView:
        node, overlay = self._caches.nodes.get(name), self._caches.overlays.get(name)
        gateway = overlay.assignment.gateway if overlay else None
        return NodeView(
            name=name,
            node=node,
            overlay=overlay,
            routes=compile_routes(self._caches.routes.values(), node, gateway) if node else (),
            pools=self._caches.pools_in_order(),
            now=self._now(),
            records_differ=overlay is not None and self._caches.records_differ(overlay),
        )

    def _owner(self, view: NodeView) -> Owner:
        return Owner(self._cluster, view.name, view.node.uid if view.node else "")

    async def _apply(self, view: NodeView, action: ClusterAction) -> None:
        match action:
            case ApplyOverlay(labels, routes):
                body = self._body(view.overlay, view.name)
                body["metadata"] |= {"labels": dict(labels), "finalizers": [FINALIZER]}
                body["spec"] = {"routes": [route.to_json() for route in routes]}
                await self._api.apply(NODE_OVERLAY_IPS, view.name, body, field_manager=CONTROLLER_FIELD_MANAGER)
                log.info("object applied", extra={"node": view.name, "routes": len(routes)})
            case ApplyAssignment(assignment):
                body = self._body(view.overlay, view.name) | {"status": assignment.to_json()}
                await self._api.apply(
                    NODE_OVERLAY_IPS,
                    view.name,
                    body,
                    field_manager=CONTROLLER_FIELD_MANAGER,
                    subresource="status",
                )
                reason = assignment.reserved.reason if assignment.reserved else ""
                log.info("status applied", extra={"node": view.name, "address": assignment.address, "reason": reason})
            case Reserve():
                await self._reserve(view, action)
            case Release(reservation):
                await self._ipam.release(reservation)
                log.info("address released", extra={"node": view.name, "address": reservation.address.ip})
            case DeleteOverlay():
                await self._delete(view)
            case DropFinalizer():
                await self._drop_finalizer(view)
            case Announce(reason, message, warning):
                if view.overlay is not None:
                    overlay = view.overlay
                    self._events.emit(NODE_OVERLAY_IPS, overlay.name, overlay.uid, reason, message, warning=warning)
            case LookUp():
                pass

    @staticmethod
    def _body(overlay: NodeOverlay | None, name: str) -> JsonObject:
        metadata: JsonObject = {"name": name}
        if overlay is not None:
            # What was planned for this object as it was seen is for no other one, and for no later state of it: a
            # controller that was paused meanwhile must not write what it once decided.
            metadata |= {"uid": overlay.uid, "resourceVersion": overlay.resource_version}
        return {
            "apiVersion": NODE_OVERLAY_IPS.api_version,
            "kind": NODE_OVERLAY_IPS.kind,
            "metadata": metadata,
        }

    async def _reserve(self, view: NodeView, action: Reserve) -> None:
        full: Exhausted | None = None
        for pool in action.pools:
            try:
                reservation = await self._ipam.reserve(self._owner(view), pool, action.wanted)
            except Exhausted as error:
                full = error
                continue
            log.info(
                "address reserved",
                extra={"node": view.name, "address": reservation.address.ip, "pool": pool.name},
            )
            return
        if full is not None:
            raise full

    async def _delete(self, view: NodeView) -> None:
        if view.overlay is None:
            return
        try:
            await self._api.delete(
                NODE_OVERLAY_IPS,
                view.name,
                uid=view.overlay.uid,
                resource_version=view.overlay.resource_version,
            )
        except NotFound:
            return
        log.info("object deleted: the node is gone", extra={"node": view.name})

    async def _drop_finalizer(self, view: NodeView) -> None:
        if view.overlay is None:
            return
        rest = [finalizer for finalizer in view.overlay.finalizers if finalizer != FINALIZER]
        change = {"metadata": {"resourceVersion": view.overlay.resource_version, "finalizers": rest}}
        try:
            await self._api.merge_patch(NODE_OVERLAY_IPS, view.name, change)
        except NotFound:
            return
        log.info("finalizer removed", extra={"node": view.name})
