"""Reconciles OverlayPools with phpIPAM.subnetMap; domain.allocation.subnet_map decides what to change."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from overlay_net.adapters.kube import KubeApi, apply_owned
from overlay_net.controller.caches import Caches
from overlay_net.domain.allocation.subnet_map import MappedPool, plan_pools
from overlay_net.model.errors import Conflict, NotFound
from overlay_net.model.managed_fields import Path
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, OVERLAY_POOLS, SUBNET_MAP_LABEL
from overlay_net.model.pool import Pool
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

MAPPED_FIELDS: Final[frozenset[Path]] = frozenset({("spec", "zones")})
"""The elements of a set outlive a change of the map; other fields are replaced."""


class SubnetMapReconciler:
    def __init__(self, api: KubeApi, caches: Caches, subnet_map: Mapping[str, Sequence[int]]) -> None:
        self._api = api
        self._caches = caches
        self._map = subnet_map

    async def reconcile(self, _: str) -> Requeue | None:
        """Reconcile all pools of the map; there is only one key."""
        if not self._caches.synced:
            return Requeue(1)
        plan = plan_pools(self._map, self._caches.pools.values())
        for desired in plan.apply:
            await self._apply(desired)
        for pool in plan.delete:
            await self._delete(pool)
        return None

    async def _apply(self, desired: MappedPool) -> None:
        body = OVERLAY_POOLS.manifest(
            desired.name,
            labels={SUBNET_MAP_LABEL: "true"},
            spec={
                "zones": [desired.zone],
                "priority": desired.priority,
                "phpIPAM": {"subnetID": desired.subnet_id},
            },
        )
        await apply_owned(self._api, OVERLAY_POOLS, body, field_manager=CONTROLLER_FIELD_MANAGER, owned=MAPPED_FIELDS)
        log.info("subnet map pool applied", extra={"pool": desired.name})

    async def _delete(self, pool: Pool) -> None:
        try:
            await self._api.delete(OVERLAY_POOLS, pool.name, uid=pool.uid)
        except (NotFound, Conflict):
            return
        log.info("subnet map pool deleted", extra={"pool": pool.name})
