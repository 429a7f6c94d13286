"""Periodically compares the IPAM with the cluster; domain.allocation.ipam_audit decides what to release."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam import Ipam
from overlay_net.domain.allocation.ipam_audit import AuditResult, FirstFound, audit
from overlay_net.model.errors import Conflict, OverlayNetError
from overlay_net.model.ipam import Reservation
from overlay_net.model.names import NODE_OVERLAY_IPS
from overlay_net.model.overlay import NodeOverlay
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.offload import offload

log = logging.getLogger(__name__)

VALUES_PER_RECORD = 5
"""What an audit computes for each record, as a size for ``offload``: 1,000 of them take 2 to 10 ms."""


class Auditor:
    """``request_check`` is called with the name of each node whose records do not match its object; ``pools_changed``
    when the condition of a pool must change."""

    def __init__(
        self,
        api: KubeApi,
        ipam: Ipam,
        caches: Caches,
        grace: timedelta,
        request_check: Callable[[str], None],
        events: EventRecorder,
        metrics: ControllerMetrics,
        clock: Callable[[], float] = time.monotonic,
        pools_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._api = api
        self._ipam = ipam
        self._caches = caches
        self._grace = grace
        self._request_check = request_check
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._pools_changed = pools_changed
        self._first_found: FirstFound = {}

    async def run(self, interval: timedelta) -> None:
        """Audit periodically until cancelled. A failed audit changes nothing."""
        while True:
            # The jitter keeps replicas and clusters from reading a shared IPAM at the same time.
            await asyncio.sleep(interval.total_seconds() * random.uniform(0.9, 1.1))
            try:
                await self.audit()
            except OverlayNetError as error:
                log.warning("audit failed; nothing was changed", extra={"error": str(error)})

    async def audit(self) -> None:
        """Run one audit. Records are read before objects, so a node that joins in between does not appear missing.

        Of the objects only the names are read, as their routes have megabytes; the rest is what the watch reported.
        """
        pools, records = self._caches.pools_in_order(), self._caches.released_records
        has_returned = records.watch_returns()
        inventory = await self._ipam.inventory(pools)
        for problem in inventory.problems:
            log.warning("audit skips a pool that could not be read", extra={"error": problem})
        names = await self._api.names(NODE_OVERLAY_IPS)
        overlays = {name: overlay for name in names if (overlay := self._caches.overlays.get(name)) is not None}
        unknown = names - overlays.keys()
        reservations = tuple(each for each in inventory.reservations if each.owner.node not in unknown)
        inventory = replace(inventory, reservations=reservations)
        result = await offload(
            len(reservations) * VALUES_PER_RECORD,
            audit,
            inventory,
            overlays,
            self._first_found,
            self._clock(),
            self._grace,
            pools,
            has_returned=has_returned,
            shared=records.shared,
        )
        self._first_found = result.first_found
        self._stop_releases(result)
        for name in result.mismatched:
            log.info("the IPAM records of a node do not match its object; checking again", extra={"node": name})
            self._request_check(name)
        self._report_edited(result.edited, overlays)
        for reservation in result.release:
            await self._release(reservation)
        if not inventory.problems:
            self._metrics.record_sync()

    def _stop_releases(self, result: AuditResult) -> None:
        records = self._caches.released_records
        before = records.shared
        records.set_shared(result.shared)
        self._metrics.releases_withheld.set(len(result.withheld))
        if result.shared != before:
            self._pools_changed()
            for each in result.withheld:
                facts = {"address": each.address.ip, "pool": each.pool, "node": each.owner.node}
                log.warning("not releasing an orphaned address, the cluster ID is not unique", extra=facts)

    def _report_edited(self, edited: tuple[Reservation, ...], overlays: Mapping[str, NodeOverlay]) -> None:
        self._metrics.records_edited.set(len(edited))
        for reservation in edited:
            overlay, address = overlays[reservation.owner.node], reservation.address.ip
            shown = overlay.assignment.address
            other = f", and the node has {shown.ip}" if shown and shown.ip != address else ""
            message = f"IPAM record of {address}: {reservation.edited}{other}; the record is left unchanged"
            self._events.emit(NODE_OVERLAY_IPS, overlay.name, overlay.uid, "RecordEdited", message, warning=True)

    async def _release(self, reservation: Reservation) -> None:
        try:
            await self._ipam.release(reservation)
        except Conflict:
            # The record was written since it was read: the next audit decides again.
            return
        self._metrics.audit_released.inc()
        log.warning(
            "released an orphaned address",
            extra={"address": reservation.address.ip, "pool": reservation.pool, "node": reservation.owner.node},
        )
