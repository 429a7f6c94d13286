"""Carries out the steps of a node's plan, on its object, in the IPAM and as events. Each step is idempotent."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from overlay_net.adapters.kube import KubeApi, apply_owned
from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam import Ipam
from overlay_net.controller.ipam_checks import IpamChecks
from overlay_net.controller.reserved_events import ReservedEvents
from overlay_net.model.adoptable_route import encode_adoptable
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import Conflict, Exhausted, NotFound, Refused, Unavailable
from overlay_net.model.ipam import Owner, Reservation
from overlay_net.model.managed_fields import Path
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, FINALIZER, NODE_OVERLAY_IPS, NODES
from overlay_net.model.node import UNKNOWN_INSTANCE, Node
from overlay_net.model.node_actions import (
    Announce,
    AnnounceFirst,
    ApplyAssignment,
    ApplyOverlay,
    ClusterAction,
    ConfirmNodeGone,
    DeleteOverlay,
    DropFinalizer,
    EarlierRoutes,
    FindReservations,
    NodeView,
    Quarantine,
    Release,
    RemoveTaint,
    Reserve,
)
from overlay_net.model.overlay import ASSIGNMENT_FIELDS, SPEC_FIELDS
from overlay_net.model.parse import find_object, find_objects, parse_text
from overlay_net.model.route_spec import encode_route
from overlay_net.ops.events import EventRecorder

log = logging.getLogger(__name__)


class IpamFailed(Exception):
    """The IPAM could not answer or refused the request; ``error`` has the reason."""

    def __init__(self, error: Unavailable | Refused) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _ipam_request() -> Iterator[None]:
    """Distinguish failures of the IPAM from those of the Kubernetes API, because their retries differ."""
    try:
        yield
    except (Unavailable, Refused) as error:
        raise IpamFailed(error) from None


class NodeSteps:
    """Responses to writes of the object go to ``caches`` ahead of the watch, so that no step is planned twice."""

    def __init__(
        self, api: KubeApi, ipam: Ipam, cluster: str, events: EventRecorder, caches: Caches, checks: IpamChecks
    ) -> None:
        self._api = api
        self._ipam = ipam
        self._cluster = cluster
        self._events = events
        self._caches = caches
        self._checks = checks
        self._reserved = ReservedEvents(events, caches.pools)

    async def find(self, view: NodeView) -> tuple[Reservation, ...]:
        """Find every reservation of the node in the IPAM. Raises IpamFailed."""
        address = view.overlay.assignment.address if view.overlay else None
        cached = self._checks.cache_suffices(view.name, view.overlay)
        with _ipam_request():
            return await self._ipam.find(self._owner(view), address.ip if address else None, cached=cached)

    async def apply(self, view: NodeView, action: ClusterAction) -> Reservation | None:
        """Carry out one step. Returns the new reservation of a Reserve.

        Raises Conflict if ``view`` is stale, IpamFailed, and for Reserve also Exhausted and AddressTaken.
        """
        match action:
            case Reserve():
                return await self._reserve(view, action)
            case Release(reservation):
                with _ipam_request():
                    await self._ipam.release(reservation)
                log.info("address released", extra={"node": view.name, "address": reservation.address.ip})
            case Quarantine(reservation, until):
                with _ipam_request():
                    await self._ipam.quarantine(reservation, until)
                log.warning("address quarantined", extra={"node": view.name, "address": reservation.address.ip})
            case ApplyOverlay() if view.overlay is None:
                await self._create_overlay(view, action)
            case ApplyOverlay():
                await self._apply_overlay(view, action)
            case ApplyAssignment():
                await self._apply_assignment(view, action)
            case ConfirmNodeGone():
                await self._confirm_node_gone(view)
            case DeleteOverlay():
                await self._delete_overlay(view)
            case DropFinalizer():
                await self._drop_finalizer(view)
            case RemoveTaint(key):
                await self._remove_taint(view, key)
            case Announce():
                self._announce(view, action)
            case AnnounceFirst(pool, address):
                self._reserved.add(pool, view.name, address)
            case FindReservations():
                # Handled by the caller, because its answer belongs in a view: see ``find``.
                pass
        return None

    # --- The IPAM -----------------------------------------------------------------------------------------------------

    def _owner(self, view: NodeView) -> Owner:
        return Owner(self._cluster, view.name, view.node.uid if view.node else "")

    async def _reserve(self, view: NodeView, action: Reserve) -> Reservation:
        exhausted = Exhausted("no pool to reserve from")
        for pool in action.pools:
            try:
                with _ipam_request():
                    reservation = await self._ipam.reserve(
                        self._owner(view), pool, action.requested, adopt=action.adopt
                    )
            except Exhausted as error:
                exhausted = error
                continue
            log.debug(
                "address reserved",
                extra={"node": view.name, "address": reservation.address.ip, "pool": pool.name},
            )
            return reservation
        raise exhausted

    # --- The node's object --------------------------------------------------------------------------------------------

    async def _create_overlay(self, view: NodeView, action: ApplyOverlay) -> None:
        """Create, never apply: if the object exists but is not in the cache yet, an apply would empty its routes."""
        body = NODE_OVERLAY_IPS.manifest(
            view.name, labels=action.labels, finalizers=[FINALIZER], spec=_encode_spec(action)
        )
        raw = await self._api.create(NODE_OVERLAY_IPS, body, field_manager=CONTROLLER_FIELD_MANAGER)
        self._checks.created(view.name, parse_text(find_object(raw, "metadata").get("uid")))
        self._caches.overlays.add_written(raw)
        log.debug("object created", extra={"node": view.name})

    async def _apply_overlay(self, view: NodeView, action: ApplyOverlay) -> None:
        body = _conditional_manifest(view, labels=action.labels, finalizers=[FINALIZER], spec=_encode_spec(action))
        await self._apply(body, SPEC_FIELDS)
        log.debug("spec applied", extra={"node": view.name, "route_sets": len(action.route_sets or ())})

    async def _apply_assignment(self, view: NodeView, action: ApplyAssignment) -> None:
        assignment = action.assignment
        body = _conditional_manifest(view, status=assignment.to_json())
        await self._apply(body, ASSIGNMENT_FIELDS, subresource="status")
        reason = assignment.reserved.reason if assignment.reserved else ""
        log.debug("status applied", extra={"node": view.name, "address": assignment.address, "reason": reason})

    async def _apply(self, body: JsonObject, owned: Collection[Path], subresource: str | None = None) -> None:
        raw = await apply_owned(
            self._api,
            NODE_OVERLAY_IPS,
            body,
            field_manager=CONTROLLER_FIELD_MANAGER,
            owned=owned,
            subresource=subresource,
            metadata_only=False,
        )
        self._caches.overlays.add_written(raw)

    async def _delete_overlay(self, view: NodeView) -> None:
        if view.overlay is None:
            return
        uid, version = view.overlay.uid, view.overlay.resource_version
        try:
            await self._api.delete(NODE_OVERLAY_IPS, view.name, uid=uid, resource_version=version)
        except NotFound:
            return
        log.info("object deleted", extra={"node": view.name})

    async def _drop_finalizer(self, view: NodeView) -> None:
        if view.overlay is None:
            return
        finalizers = [finalizer for finalizer in view.overlay.finalizers if finalizer != FINALIZER]
        change = {"metadata": {"resourceVersion": view.overlay.resource_version, "finalizers": finalizers}}
        try:
            await self._api.merge_patch(NODE_OVERLAY_IPS, view.name, change)
        except NotFound:
            return
        log.info("finalizer removed", extra={"node": view.name})

    def _announce(self, view: NodeView, event: Announce) -> None:
        if view.overlay is not None:
            name, uid = view.overlay.name, view.overlay.uid
            self._events.emit(NODE_OVERLAY_IPS, name, uid, event.reason, event.message, warning=event.warning)

    # --- The Node -----------------------------------------------------------------------------------------------------

    async def _confirm_node_gone(self, view: NodeView) -> None:
        try:
            raw = await self._api.get(NODES, view.name, metadata_only=True)
        except NotFound:
            return
        if not self._caches.has_agent(Node.parse(raw)):
            return
        raise Conflict(f"Node {view.name} exists, but its watch has not reported it yet")

    async def _remove_taint(self, view: NodeView, key: str) -> None:
        """Remove a taint by a conditional write, as the list has other taints as well. Raises Conflict.

        A Node that was created again under this name, or has booted again, keeps it until its own agent has reported.
        """
        name = view.name
        try:
            raw = await self._api.get(NODES, name)
        except NotFound:
            return
        if view.node is None or Node.parse(raw).instance != view.node.instance:
            raise Conflict(f"Node {name} is another instance, which its watch has not reported yet")
        before = find_objects(find_object(raw, "spec"), "taints")
        after = [taint for taint in before if taint.get("key") != key]
        if len(after) == len(before):
            return
        version = find_object(raw, "metadata").get("resourceVersion")
        change = {"metadata": {"resourceVersion": version}, "spec": {"taints": after}}
        await self._api.merge_patch(NODES, name, change)
        log.info("startup taint removed", extra={"node": name, "taint": key})


def _encode_spec(action: ApplyOverlay) -> JsonObject:
    spec: JsonObject = {} if action.earlier is None else _encode_earlier(action.earlier)
    if action.route_sets is not None:
        spec["routeSets"] = [each.to_json() for each in action.route_sets]
    if action.routes_only:
        spec["routesOnly"] = True
    if action.node != UNKNOWN_INSTANCE:
        spec["node"] = action.node.to_json()
    if action.cluster:
        spec["clusterID"] = action.cluster
    if action.withdrawn:
        spec["withdrawn"] = [each.to_json() for each in action.withdrawn]
    if action.adoptable:
        spec["adoptable"] = encode_adoptable(action.adoptable)
    return spec


def _encode_earlier(earlier: EarlierRoutes) -> JsonObject:
    """Return what an earlier version wrote, exactly as it did: an apply removes what it omits."""
    spec: JsonObject = {"routes": [encode_route(route) for route in earlier.routes]}
    if earlier.generations:
        spec["generations"] = [each.to_json() for each in earlier.generations]
    if earlier.omitted:
        spec["omitted"] = list(earlier.omitted)
    return spec


def _conditional_manifest(view: NodeView, **fields: Any) -> JsonObject:
    """Return the object of ``view`` for a write that the API server rejects for any other object or version.

    A controller that was paused must not write an outdated decision.
    """
    if view.overlay is not None:
        fields |= {"uid": view.overlay.uid, "resource_version": view.overlay.resource_version}
    return NODE_OVERLAY_IPS.manifest(view.name, **fields)
