"""Compares the IPAM with the cluster, and releases what belongs to nobody (the rules are in domain.audit)."""

import asyncio
import logging
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.ports import Ipam
from overlay_net.domain.audit import audit
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.names import NODE_OVERLAY_IPS
from overlay_net.model.parse import object_of, text_of
from overlay_net.ops.metrics import Metrics

log = logging.getLogger(__name__)


class Auditor:
    def __init__(self, api: KubeApi, ipam: Ipam, cluster: str, grace: timedelta, metrics: Metrics) -> None:
        self._api = api
        self._ipam = ipam
        self._cluster = cluster
        self._grace = grace
        self._metrics = metrics
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
        """One audit. Reservations are read before owners: a node that joins in between is never taken for missing."""
        reservations = await self._ipam.list(self._cluster)
        listing = await self._api.list(NODE_OVERLAY_IPS, metadata_only=True)
        owners = {text_of(object_of(item, "metadata").get("name")) for item in listing.items}
        result = audit(reservations, owners, self._suspects, datetime.now(UTC), self._grace)
        self._suspects = result.suspects
        for reservation in result.release:
            await self._ipam.release(reservation)
            self._metrics.audit_released.inc()
            log.warning(
                "released an address without owner",
                extra={"address": reservation.address.ip, "pool": reservation.pool, "node": reservation.owner.node},
            )
