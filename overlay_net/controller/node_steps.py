"""The steps of a node's plan, carried out: on its object, in the IPAM, as events. Each can be carried out twice."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.ipam import Ipam
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import CONFIGURED, find
from overlay_net.model.errors import (
    Conflict,
    Exhausted,
    NotFound,
    Refused,
    Unavailable,
)
from overlay_net.model.ipam import Owner, Reservation
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, FINALIZER, NODE_OVERLAY_IPS, NODES
from overlay_net.model.node_actions import (
    Announce,
    ApplyAssignment,
    ApplyOverlay,
    ClusterAction,
    DeleteOverlay,
    DropFinalizer,
    FindReservations,
    NodeView,
    Quarantine,
    Release,
    RemoveTaint,
    Reserve,
)
from overlay_net.model.parse import find_object, find_objects
from overlay_net.model.route_spec import encode_route
from overlay_net.ops.events import EventRecorder

log = logging.getLogger(__name__)


class IpamFailed(Exception):
    """The IPAM could not be asked, or refused to be; ``error`` says which and why."""

    def __init__(self, error: Unavailable | Refused) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def asking() -> Iterator[None]:
    """Tells a failure of the IPAM from one of the Kubernetes API: they are waited for in different ways."""
    try:
        yield
    except (Unavailable, Refused) as error:
        raise IpamFailed(error) from None


def make_owner(view: NodeView, cluster: str) -> Owner:
    return Owner(cluster, view.name, view.node.uid if view.node else "")


def _spec(action: ApplyOverlay) -> JsonObject:
    spec: JsonObject = {"routes": [encode_route(route) for route in action.routes]}
    if action.routes_only:
        spec["routesOnly"] = True
    if action.generations:
        spec["generations"] = [each.to_json() for each in action.generations]
    if action.withdrawn:
        spec["withdrawn"] = [each.to_json() for each in action.withdrawn]
    return spec


def _conditional_manifest(view: NodeView, **fields: Any) -> JsonObject:
    """The object of ``view``, for a write that the API server refuses for any other object and any later version.

    A controller that was paused must not write what it decided before.
    """
    overlay = view.overlay
    if overlay is not None:
        fields |= {"uid": overlay.uid, "resource_version": overlay.resource_version}
    return NODE_OVERLAY_IPS.manifest(view.name, **fields)


class NodeSteps:
    def __init__(self, api: KubeApi, ipam: Ipam, cluster: str, events: EventRecorder) -> None:
        self._api = api
        self._ipam = ipam
        self._cluster = cluster
        self._events = events

    async def apply(self, view: NodeView, action: ClusterAction) -> Reservation | None:
        """One step; a reservation answers with what the IPAM has now."""
        match action:
            case ApplyOverlay(labels) if view.overlay is None:
                await self._create(view.name, labels)
            case ApplyOverlay(labels):
                body = _conditional_manifest(view, labels=labels, finalizers=[FINALIZER], spec=_spec(action))
                await self._api.apply(NODE_OVERLAY_IPS, view.name, body, field_manager=CONTROLLER_FIELD_MANAGER)
                log.info("object applied", extra={"node": view.name, "routes": len(action.routes)})
            case ApplyAssignment(assignment):
                body = _conditional_manifest(view, status=assignment.to_json())
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
                with asking():
                    await self._ipam.release(reservation)
                log.info("address released", extra={"node": view.name, "address": reservation.address.ip})
            case Quarantine(reservation, until):
                with asking():
                    await self._ipam.quarantine(reservation, until)
                seen = find(view.overlay.report.conditions, CONFIGURED) if view.overlay else None
                what = seen.message if seen else f"{reservation.address.ip} is in use by somebody else"
                message = f"{what}; it is kept from everybody for a while, and the node gets another address"
                self._announce(view, Announce("AddressQuarantined", message, warning=True))
                log.warning("address quarantined", extra={"node": view.name, "address": reservation.address.ip})
            case DeleteOverlay():
                await self._delete(view)
            case DropFinalizer():
                await self._drop_finalizer(view)
            case RemoveTaint(key):
                await self._remove_taint(view.name, key)
            case Announce():
                self._announce(view, action)
            case FindReservations():
                pass
        return None

    def _announce(self, view: NodeView, what: Announce) -> None:
        if view.overlay is not None:
            name, uid = view.overlay.name, view.overlay.uid
            self._events.emit(NODE_OVERLAY_IPS, name, uid, what.reason, what.message, warning=what.warning)

    async def _create(self, name: str, labels: Mapping[str, str]) -> None:
        """Never an apply: the object may be there already, unseen as yet, and an apply would empty its routes."""
        body = NODE_OVERLAY_IPS.manifest(name, labels=labels, finalizers=[FINALIZER], spec={})
        await self._api.create(NODE_OVERLAY_IPS, body)
        log.info("object created", extra={"node": name})

    async def confirm_gone(self, view: NodeView) -> None:
        """Raises Conflict where the Node is there: a watch that stands still must not end a living node."""
        if view.node is not None:
            return
        try:
            await self._api.get(NODES, view.name, metadata_only=True)
        except NotFound:
            return
        raise Conflict(f"Node {view.name} is there, which its watch has not told yet")

    async def _reserve(self, view: NodeView, action: Reserve) -> Reservation:
        full = Exhausted("no pool was given")
        for pool in action.pools:
            try:
                with asking():
                    reservation = await self._ipam.reserve(
                        make_owner(view, self._cluster), pool, action.requested, adopt=action.adopt
                    )
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
        await self.confirm_gone(view)
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

    async def _remove_taint(self, name: str, key: str) -> None:
        """Others' taints are in the same list: it is written back only as it was read. Raises Conflict."""
        try:
            raw = await self._api.get(NODES, name)
        except NotFound:
            return
        before = find_objects(find_object(raw, "spec"), "taints")
        after = [taint for taint in before if taint.get("key") != key]
        if len(after) == len(before):
            return
        version = find_object(raw, "metadata").get("resourceVersion")
        change = {"metadata": {"resourceVersion": version}, "spec": {"taints": after}}
        await self._api.merge_patch(NODES, name, change)
        log.info("startup taint removed", extra={"node": name, "taint": key})

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
