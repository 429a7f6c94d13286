"""Reconciles the status of an OverlayPool with its IPAM."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from overlay_net.adapters.kube import KubeApi, apply_owned
from overlay_net.controller.caches import Caches
from overlay_net.controller.ipam import Ipam, describe_failure
from overlay_net.domain.allocation.pool_conflicts import gateway_in_use, overlaps_cluster
from overlay_net.domain.allocation.pool_status import (
    pool_status,
    unknown_status,
    unusable_status,
    with_consistency,
)
from overlay_net.domain.allocation.shared_cluster_id import shared_id_condition
from overlay_net.domain.routes.protecting_objects import describe_node_address
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import CONSISTENT, READY, Condition, find_condition, parse_conditions
from overlay_net.model.errors import NotFound, PoolUnusable, Refused, Unavailable
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, OVERLAY_POOLS
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import parse_int
from overlay_net.model.pool import POOL_STATUS_FIELDS, Pool
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.worker import Requeue

RECHECK = timedelta(minutes=1)
"""Longest interval for reading a pool that cannot assign addresses: nodes may be waiting for its correction."""


class PoolReconciler:
    """``refresh`` is the interval for reading pools of an external IPAM, which does not notify of changes."""

    def __init__(
        self,
        api: KubeApi,
        ipam: Ipam,
        caches: Caches,
        refresh: timedelta,
        metrics: ControllerMetrics,
        events: EventRecorder,
    ) -> None:
        self._api = api
        self._ipam = ipam
        self._caches = caches
        self._refresh = refresh
        self._metrics = metrics
        self._events = events

    async def reconcile(self, name: str) -> Requeue | None:
        if not self._caches.synced:
            return Requeue(1)
        pool = self._caches.find_pool(name)
        if pool is None:
            self._metrics.forget_pool(name)
            return None
        status, again = await self._status(pool)
        conflict = self._find_conflict(pool)
        status = with_consistency(status, pool, conflict, datetime.now(UTC))
        self._metrics.set_pool(name, parse_int(status.get("used")), parse_int(status.get("free")))
        self._metrics.set_pool_conflict(name, "" if conflict is None else conflict.reason)
        if status != pool.status:
            await self._write(pool, status)
            self._announce(pool, conflict)
        return again

    async def _status(self, pool: Pool) -> tuple[JsonObject, Requeue | None]:
        """Return the status, and when to read the pool again."""
        now = datetime.now(UTC)
        try:
            facts = await self._ipam.inspect_pool(pool)
        except PoolUnusable as error:
            return self._with_next_read(pool, unusable_status(pool, error.reason, str(error), now))
        except Unavailable as error:
            return unknown_status(pool, *describe_failure(error), now), Requeue(error.retry_after)
        except Refused as error:
            return self._with_next_read(pool, unknown_status(pool, *describe_failure(error), now))
        failure = None if facts.failure is None else describe_failure(facts.failure)
        return self._with_next_read(pool, pool_status(pool, facts, now, failure))

    def _with_next_read(self, pool: Pool, status: JsonObject) -> tuple[JsonObject, Requeue | None]:
        if pool.subnet_id is None:
            return status, None
        ready = find_condition(parse_conditions(status), READY)
        interval = self._refresh if ready is not None and ready.status else min(self._refresh, RECHECK)
        return status, Requeue(interval.total_seconds())

    def _find_conflict(self, pool: Pool) -> Condition | None:
        conflict = overlaps_cluster(pool, self._cluster_networks(pool), self._caches.pool_conflicts.get(pool.name))
        if pool.gateway is not None:
            conflict = gateway_in_use(pool, self._caches.known_addresses.nodes_with(pool.gateway), conflict)
        return shared_id_condition(conflict) if pool.name in self._caches.released_records.shared else conflict

    def _cluster_networks(self, pool: Pool) -> Iterator[tuple[IpNetwork, str]]:
        """Yield the subnets of nodes, pods and services that the pool overlaps, with their use."""
        for each in self._caches.protected.networks.overlapping(pool.cidr) if pool.cidr is not None else ():
            # Some cloud providers report every address of a machine, including its overlay address.
            nodes = self._caches.known_addresses.nodes_with(each.subnet.network_address)
            if each.description not in map(describe_node_address, nodes):
                yield each.subnet, each.description

    def _announce(self, pool: Pool, conflict: Condition | None) -> None:
        before = find_condition(pool.conditions, CONSISTENT)
        if conflict is not None and (before is None or before.reason != conflict.reason):
            self._events.emit(OVERLAY_POOLS, pool.name, pool.uid, conflict.reason, conflict.message, warning=True)

    async def _write(self, pool: Pool, status: JsonObject) -> None:
        body = OVERLAY_POOLS.manifest(pool.name, uid=pool.uid, status=status)
        try:
            await apply_owned(
                self._api,
                OVERLAY_POOLS,
                body,
                field_manager=CONTROLLER_FIELD_MANAGER,
                owned=POOL_STATUS_FIELDS,
                subresource="status",
            )
        except NotFound:
            # The pool was deleted in the meantime; the watch reports that too.
            return
