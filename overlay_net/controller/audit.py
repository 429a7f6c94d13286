"""Compares the IPAM with the cluster, and releases what belongs to nobody (the rules are in domain.audit)."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam import Ipam
from overlay_net.domain.allocation.ipam_audit import audit
from overlay_net.model.errors import Conflict, OverlayNetError
from overlay_net.model.names import NODE_OVERLAY_IPS
from overlay_net.model.overlay import NodeOverlay
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.events import EventRecorder

log = logging.getLogger(__name__)


class Auditor:
    """``request_check`` is called with the name of each node whose records do not agree with its object."""

    def __init__(
        self,
        api: KubeApi,
        ipam: Ipam,
        caches: Caches,
        grace: timedelta,
        request_check: Callable[[str], None],
        events: EventRecorder,
        metrics: ControllerMetrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._ipam = ipam
        self._caches = caches
        self._grace = grace
        self._request_check = request_check
        self._events = events
        self._metrics = metrics
        self._now = now
        self._suspects: Mapping[str, datetime] = {}

    async def run(self, interval: timedelta) -> None:
        """Audit for ever; a failed audit changes nothing and is tried again at its next turn."""
        while True:
            # Replicas and clusters that share an IPAM must not ask it all at once.
            await asyncio.sleep(interval.total_seconds() * random.uniform(0.9, 1.1))
            try:
                await self.audit()
            except OverlayNetError as error:
                log.warning("audit failed, nothing was changed: %s", error)

    async def audit(self) -> None:
        """One audit. Records are read before objects: a node that joins in between is never taken for missing."""
        inventory = await self._ipam.inventory(self._caches.pools_in_order())
        for problem in inventory.problems:
            log.warning("audit: a pool could not be read, nothing of it is changed: %s", problem)
        listing = await self._api.list(NODE_OVERLAY_IPS)
        overlays = {overlay.name: overlay for overlay in map(NodeOverlay.parse, listing.items)}
        result = audit(inventory, overlays, self._suspects, self._now(), self._grace)
        self._suspects = result.suspects
        for name in result.doubtful:
            log.info("the records of a node do not agree with its object: looking again", extra={"node": name})
            self._request_check(name)
        self._metrics.records_edited.set(len(result.edited))
        for reservation in result.edited:
            overlay = overlays[reservation.owner.node]
            message = f"record of {reservation.address.ip} in the IPAM: {reservation.edited}; it is left as it is"
            self._events.emit(NODE_OVERLAY_IPS, overlay.name, overlay.uid, "RecordEdited", message, warning=True)
        for reservation in result.release:
            try:
                await self._ipam.release(reservation)
            except Conflict:
                # Somebody needs it after all, or only wrote a note into it: the next audit sees which.
                continue
            self._metrics.audit_released.inc()
            log.warning(
                "released an address without owner",
                extra={"address": reservation.address.ip, "pool": reservation.pool, "node": reservation.owner.node},
            )
        if not inventory.problems:
            self._metrics.record_sync()
