"""One node: look, plan, apply. The decisions are in domain.node_plan; here is only what touches the world."""

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches, UsedElsewhere
from overlay_net.controller.ports import Ipam
from overlay_net.domain.node_plan import plan_node
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
    Quarantine,
    Release,
    Reserve,
)
from overlay_net.model.conditions import CONFIGURED, find
from overlay_net.model.errors import (
    AddressTaken,
    AlreadyExists,
    ApiError,
    Conflict,
    CredentialsRefused,
    Exhausted,
    NotFound,
    Refused,
    Unavailable,
)
from overlay_net.model.ipam import Owner, Reservation
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, FINALIZER, NODE_OVERLAY_IPS, NODES
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import route_json
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

MAX_LOOKS = 8
"""Looks in one reconciliation; a node that needs more is put back into the queue."""

SPREAD = 1.0
"""Seconds over which the nodes that wait for one IPAM come back."""


def _wait(plan: NodePlan) -> Requeue | None:
    return Requeue(plan.look_after.total_seconds()) if plan.look_after is not None else None


class _IpamFailed(Exception):
    """The IPAM could not be asked, or refused to be; ``error`` says which and why."""

    def __init__(self, error: Unavailable | Refused) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _asking() -> Iterator[None]:
    """Tells a failure of the IPAM from one of the Kubernetes API: they are waited for in different ways."""
    try:
        yield
    except (Unavailable, Refused) as error:
        raise _IpamFailed(error) from None


def trouble_of(error: ApiError) -> tuple[str, str]:
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
        rules: LifeRules,
        events: EventRecorder,
        hand_over: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._ipam = ipam
        self._caches = caches
        self._cluster = cluster
        self._rules = rules
        self._events = events
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
        plan = plan_node(view, self._rules)
        try:
            for action in plan.actions:
                if isinstance(action, LookUp):
                    self._hand_over(name)
                else:
                    await self._apply(view, action)
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
        except _IpamFailed as failure:
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
        view = replace(self._look(name), trouble=trouble_of(error))
        try:
            for action in plan_node(view, self._rules).actions:
                await self._apply(view, action)
        except Conflict:
            # The next try says it.
            return

    async def _converge(self, name: str) -> Requeue | None:
        view = self._look(name)
        for _ in range(MAX_LOOKS):
            plan = plan_node(view, self._rules)
            if LookUp() in plan.actions:
                view = await self._look_up(view)
                continue
            try:
                if any(isinstance(action, DropFinalizer) for action in plan.actions):
                    await self._confirm_gone(view)
                reserved = [await self._apply(view, action) for action in plan.actions]
            except Exhausted:
                view = replace(view, exhausted=True)
                continue
            except AddressTaken as error:
                wanted = {action.wanted for action in plan.actions if isinstance(action, Reserve) and action.wanted}
                holders = dict.fromkeys(wanted, error.holder) if error.holder else {}
                view = replace(view, taken=view.taken | wanted, holders={**view.holders, **holders})
                continue
            if any(isinstance(action, DropFinalizer) for action in plan.actions):
                return None
            fresh = tuple(reservation for reservation in reserved if reservation is not None)
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
        with _asking():
            found = await self._ipam.find(self._owner(view), address.ip if address else None)
        return replace(self._look(view.name), reservations=found)

    def _look(self, name: str) -> NodeView:
        node, overlay = self._caches.nodes.get(name), self._caches.overlays.get(name)
        gateway = overlay.assignment.gateway if overlay else None
        return NodeView(
            name=name,
            node=node,
            overlay=overlay,
            used_elsewhere=UsedElsewhere(self._caches.known_addresses, name),
            routes=self._caches.compile_for(node, gateway) if node else (),
            pools=self._caches.pools_in_order(),
            now=self._now(),
            records_differ=name in self._unsure or (overlay is not None and self._caches.records_differ(overlay)),
        )

    def _owner(self, view: NodeView) -> Owner:
        return Owner(self._cluster, view.name, view.node.uid if view.node else "")

    async def _apply(self, view: NodeView, action: ClusterAction) -> Reservation | None:
        """One step; a reservation answers with what the IPAM has now."""
        match action:
            case ApplyOverlay(labels) if view.overlay is None:
                await self._create(view.name, labels)
            case ApplyOverlay(labels, routes):
                body = self._body(view.overlay, view.name)
                body["metadata"] |= {"labels": dict(labels), "finalizers": [FINALIZER]}
                body["spec"] = {"routes": [route_json(route) for route in routes]}
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
                return await self._reserve(view, action)
            case Release(reservation):
                with _asking():
                    await self._ipam.release(reservation)
                log.info("address released", extra={"node": view.name, "address": reservation.address.ip})
            case Quarantine(reservation, until):
                with _asking():
                    await self._ipam.quarantine(reservation, until)
                seen = find(view.overlay.report.conditions, CONFIGURED) if view.overlay else None
                what = seen.message if seen else f"{reservation.address.ip} is in use by somebody else"
                message = f"{what}; it is kept from everybody for a while, and the node gets another address"
                self._announce(view, Announce("AddressConflict", message, warning=True))
                log.warning("address quarantined", extra={"node": view.name, "address": reservation.address.ip})
            case DeleteOverlay():
                await self._delete(view)
            case DropFinalizer():
                await self._drop_finalizer(view)
            case Announce():
                self._announce(view, action)
            case LookUp():
                pass
        return None

    def _announce(self, view: NodeView, what: Announce) -> None:
        if view.overlay is not None:
            name, uid = view.overlay.name, view.overlay.uid
            self._events.emit(NODE_OVERLAY_IPS, name, uid, what.reason, what.message, warning=what.warning)

    async def _create(self, name: str, labels: Mapping[str, str]) -> None:
        """Never an apply: the object may be there already, unseen as yet, and an apply would empty its routes."""
        body = self._body(None, name) | {"spec": {}}
        body["metadata"] |= {"labels": dict(labels), "finalizers": [FINALIZER]}
        await self._api.create(NODE_OVERLAY_IPS, body)
        log.info("object created", extra={"node": name})

    async def _confirm_gone(self, view: NodeView) -> None:
        """Raises Conflict where the Node is there: a watch that stands still must not end a living node."""
        if view.node is not None:
            return
        try:
            await self._api.get(NODES, view.name, metadata_only=True)
        except NotFound:
            return
        raise Conflict(f"Node {view.name} is there, which its watch has not told yet")

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

    async def _reserve(self, view: NodeView, action: Reserve) -> Reservation:
        full = Exhausted("no pool was given")
        for pool in action.pools:
            try:
                with _asking():
                    reservation = await self._ipam.reserve(self._owner(view), pool, action.wanted, adopt=action.adopt)
            except Exhausted as error:
                full = error
                continue
            log.info(
                "address reserved",
                extra={"node": view.name, "address": reservation.address.ip, "pool": pool.name},
            )
            return reservation
        raise full

    async def _delete(self, view: NodeView) -> None:
        if view.overlay is None:
            return
        await self._confirm_gone(view)
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
