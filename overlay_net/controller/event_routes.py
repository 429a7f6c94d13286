"""Routes changes of watched objects to the keys and queues of the reconcilers."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from overlay_net.controller.caches import Caches
from overlay_net.controller.status_reconciler import ROUTES
from overlay_net.domain.allocation.withdrawn_routes import CONFIRMATION_TIMEOUT
from overlay_net.domain.routes.changed_sets import ChangedSets, find_changed
from overlay_net.domain.routes.set_states import RouteSets
from overlay_net.model.ipam import AddressRecord
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime.turns import in_turns
from overlay_net.runtime.workqueue import WorkQueue

SUBNET_MAP = "subnetMap"
"""The only key of the subnet map's queue: all its pools are reconciled together."""

SLICES = "slices"
"""The only key of the queue of slices: all of them are planned together."""

WAKE = "wake"
"""Key of the queue that wakes nodes: one pass over all nodes covers every change so far."""

RECORD_DELAY = 1.0
"""Seconds after which the node of a new record is woken if it has not got the address."""

REMOVALS = "removals"
"""Key of the same queue: wakes the nodes whose agents have not confirmed removals from slices."""

Concerned: TypeAlias = Callable[[Node | None, NodeOverlay | None], bool]
"""Whether a change concerns a node, given its objects."""


@dataclass(frozen=True, slots=True)
class Queues:
    nodes: WorkQueue = field(default_factory=WorkQueue)
    """Node names, for steps that do not need an IPAM."""
    addresses: WorkQueue = field(default_factory=WorkQueue)
    """Node names, for steps that need an IPAM."""
    pools: WorkQueue = field(default_factory=WorkQueue)
    slices: WorkQueue = field(default_factory=WorkQueue)
    status: WorkQueue = field(default_factory=WorkQueue)
    rollouts: WorkQueue = field(default_factory=WorkQueue)
    """Names of StaticRoutes with a staged rollout."""
    subnet_map: WorkQueue = field(default_factory=WorkQueue)
    wake: WorkQueue = field(default_factory=WorkQueue)

    @property
    def by_name(self) -> dict[str, WorkQueue]:
        """The queues by reconciler name, as in logs and metrics."""
        return {
            "node": self.nodes,
            "address": self.addresses,
            "pool": self.pools,
            "slice": self.slices,
            "status": self.status,
            "rollout": self.rollouts,
            "subnet-map": self.subnet_map,
            "wake": self.wake,
        }

    def ipam_changed(self) -> None:
        """Read all pools that are due later now, because nodes have found that their IPAM answers differently."""
        self.pools.wake_delayed()

    def ipam_recovered(self) -> None:
        """Retry all keys that wait for an IPAM at once."""
        self.addresses.wake_delayed()
        self.pools.wake_delayed()


def enqueue_all(caches: Caches, queues: Queues) -> None:
    """Enqueue every node, NodeOverlayIp (even if its Node is gone) and pool, as no event does so after a start."""
    for name in {*caches.nodes.names(), *caches.overlays.names()}:
        queues.nodes.add(name)
    for name in caches.pools.names():
        queues.pools.add(name)
    queues.slices.add(SLICES)
    queues.status.add(ROUTES)


class EventRoutes:
    """``batch`` is the time in seconds for which changes are collected before pools are updated.

    ``StatusFeed`` follows what concerns the status of StaticRoutes.

    A change that may concern all nodes is only noted by its event, as thousands of nodes would block the event loop;
    ``wake_nodes`` goes through them.
    """

    def __init__(self, caches: Caches, queues: Queues, batch: float) -> None:
        self._caches = caches
        self._queues = queues
        self._batch = batch
        self._conflicts = caches.pool_conflicts
        self._concerned: dict[Concerned, None] = {}
        """The changes that ``wake_nodes`` has not processed yet."""
        self._address_free = False
        """Whether an address has become free since the last call of ``wake_nodes``."""
        caches.nodes.subscribe(self._node_changed)
        caches.overlays.subscribe(self._overlay_changed)
        caches.routes.subscribe(self._route_changed)
        caches.slices.subscribe(self._slice_changed)
        caches.route_sets.subscribe(self._sets_changed)
        caches.pools.subscribe(self._pool_changed)
        caches.records.subscribe(self._record_changed)
        caches.protected.subscribe(self._protection_changed)
        caches.protected.subscribe_networks(self._networks_changed)

    def _node_changed(self, name: str, _: Node | None, __: Node | None) -> None:
        self._queues.nodes.add(name)
        if self._caches.demand.undecided:
            self._queues.wake.add_after(WAKE, self._batch)

    def _protection_changed(self, _: Iterable[str]) -> None:
        self._queues.slices.add(SLICES)

    def _networks_changed(self, subnets: Collection[IpNetwork]) -> None:
        """Wake the pools that overlap one of these subnets of nodes, pods or services."""
        for pool in self._caches.pools.values():
            cidr = pool.cidr
            if cidr is not None and any(each.version == cidr.version and each.overlaps(cidr) for each in subnets):
                self._queues.pools.add_after(pool.name, self._batch)

    def _overlay_changed(self, name: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        self._queues.nodes.add(name)
        if self._caches.demand.undecided:
            # Thousands of nodes may wait, and as many be gone.
            self._queues.wake.add_after(WAKE, self._batch)
        if new is None and old is not None and old.assignment.address is not None:
            self._wake_unreserved()
        addresses = {each.assignment.address for each in (old, new) if each is not None}
        if len(addresses) > 1 or None in (old, new):
            self._wake_pools_with_gateway({each.ip for each in addresses if each is not None})

    def _route_changed(self, _: str, old: StaticRoute | None, new: StaticRoute | None) -> None:
        is_same = old is not None and new is not None and (old.revision, old.zone) == (new.revision, new.zone)
        if not is_same:
            self._queues.slices.add(SLICES)
        before, after = (each.earlier if each is not None else {} for each in (old, new))
        if before != after or (before and not is_same):
            # Some nodes may take over the routes of the earlier operator now, or it is still running.
            self._wake_where(partial(_takes_over, frozenset(before.keys() | after.keys())))

    def _slice_changed(self, _: str, old: RouteSlice | None, new: RouteSlice | None) -> None:
        self._queues.slices.add(SLICES)
        before = old.content.withdrawn if old is not None else ()
        if new is not None and not set(new.content.withdrawn).issubset(before):
            self._queues.wake.add_after(REMOVALS, CONFIRMATION_TIMEOUT.total_seconds())

    def _sets_changed(self, before: RouteSets, after: RouteSets) -> None:
        """Wake the nodes that name a set that is different now, or that one of the changed sets may fit."""
        changed = find_changed(before, after)
        if changed.routes or changed.names:
            self._wake_where(partial(_has_changed_set, changed))

    def _pool_changed(self, name: str, old: Pool | None, new: Pool | None) -> None:
        if old is None or new is None or old.revision != new.revision:
            self._queues.pools.add(name)
            self._queues.subnet_map.add(SUBNET_MAP)
        if old is None or new is None or old.definition != new.definition:
            # Nodes with an address from the pool use its gateway.
            self._wake_where(_is_present)
            self._wake_pools_in_conflict()
        elif new.has_room and not old.has_room:
            self._wake_unreserved()

    def _wake_pools_in_conflict(self) -> None:
        """Wake the pools that contradict other ones than before."""
        before, self._conflicts = self._conflicts, self._caches.pool_conflicts
        for name in before.keys() | self._conflicts.keys():
            if before.get(name) != self._conflicts.get(name):
                self._queues.pools.add(name)

    def _wake_pools_with_gateway(self, addresses: Collection[IpAddress]) -> None:
        """Wake the pools whose gateway is one of ``addresses``, which a node got or lost."""
        for pool in self._caches.pools.values():
            if pool.gateway in addresses:
                self._queues.pools.add_after(pool.name, self._batch)

    def _wake_pools_with_record(self, record: AddressRecord) -> None:
        """Wake every pool that counts the record: it may name a pool that has another name now."""
        for pool in self._caches.pools.values():
            if pool.cidr is not None and record.address is not None and record.address in pool.cidr:
                self._queues.pools.add_after(pool.name, self._batch)

    def _record_changed(self, _: str, old: AddressRecord | None, new: AddressRecord | None) -> None:
        for record in (old, new):
            if record is not None:
                self._wake_pools_with_record(record)
                # The node of a new record gets the address in a moment, and is woken by that.
                self._queues.nodes.add_after(record.node, RECORD_DELAY if old is None else 0)
        if new is None:
            self._wake_unreserved()

    def _wake_where(self, concerned: Concerned) -> None:
        self._concerned[concerned] = None
        self._queues.wake.add(WAKE)

    def _wake_unreserved(self) -> None:
        """Wake the nodes without a reservation: an address is free, or a pool has room again."""
        self._address_free = True
        self._queues.wake.add(WAKE)

    async def wake_nodes(self, key: str) -> None:
        """Wake the nodes that the changes since the last call concern, and those whose address others wait for."""
        if key == REMOVALS:
            self._concerned[self._has_removals] = None
        for gone in self._caches.demand.decide():
            self._queues.nodes.add(gone)
        if self._address_free:
            self._address_free = False
            async for name in in_turns(tuple(self._caches.demand.unreserved)):
                self._queues.nodes.add(name)
        concerned, self._concerned = tuple(self._concerned), {}
        if not concerned:
            return
        nodes, overlays = self._caches.nodes, self._caches.overlays
        async for name in in_turns({*nodes.names(), *overlays.names()}):
            node, overlay = nodes.get(name), overlays.get(name)
            if any(each(node, overlay) for each in concerned):
                self._queues.nodes.add(name)

    def _has_removals(self, _: Node | None, overlay: NodeOverlay | None) -> bool:
        reports = self._caches.slice_reports
        return overlay is not None and bool(reports.find_removals(overlay, overlay.route_sets or ()))


def _is_present(node: Node | None, _: NodeOverlay | None) -> bool:
    return node is not None


def _takes_over(names: Collection[str], node: Node | None, overlay: NodeOverlay | None) -> bool:
    return (node is not None and node.name in names) or (overlay is not None and bool(overlay.adoptable))


def _has_changed_set(changed: ChangedSets, node: Node | None, overlay: NodeOverlay | None) -> bool:
    if overlay is not None and any(each.name in changed.names for each in overlay.route_sets or ()):
        return True
    return node is not None and any(route.selects(node) for route in changed.routes)
