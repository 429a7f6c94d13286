"""Which change wakes which key of which queue; nothing is decided here."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from overlay_net.controller.caches import Caches
from overlay_net.controller.status_reconciler import ROUTES
from overlay_net.domain.routes.protected_subnets import overlap
from overlay_net.model.ipam import AddressRecord
from overlay_net.model.net import IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime.workqueue import WorkQueue


@dataclass(frozen=True, slots=True)
class Queues:
    nodes: WorkQueue = field(default_factory=WorkQueue)
    """Node names, for what needs no IPAM."""
    addresses: WorkQueue = field(default_factory=WorkQueue)
    """Node names, for what has to ask an IPAM."""
    pools: WorkQueue = field(default_factory=WorkQueue)
    status: WorkQueue = field(default_factory=WorkQueue)
    subnet_map: WorkQueue = field(default_factory=WorkQueue)

    @property
    def by_name(self) -> dict[str, WorkQueue]:
        """As logs and metrics call them: the name is that of the reconciler that works on it."""
        return {
            "node": self.nodes,
            "address": self.addresses,
            "pool": self.pools,
            "status": self.status,
            "subnet-map": self.subnet_map,
        }

    def ipam_recovered(self) -> None:
        """An IPAM that was away is back: what waits for it need not wait longer."""
        self.addresses.wake_delayed()
        self.pools.wake_delayed()


class EventRoutes:
    """``batch`` is the time in seconds that changes gather before a status is folded from them."""

    def __init__(self, caches: Caches, queues: Queues, batch: float) -> None:
        self._caches = caches
        self._queues = queues
        self._batch = batch
        caches.nodes.subscribe(self._node)
        caches.overlays.subscribe(self._overlay)
        caches.routes.subscribe(self._route)
        caches.pools.subscribe(self._pool)
        caches.records.subscribe(self._record)

    def _node(self, name: str, old: Node | None, new: Node | None) -> None:
        # Heartbeats change a node all the time; only what a plan reads of it counts.
        if old != new:
            self._queues.nodes.add(name)
            self._protection_changed(old, new)
            self._queues.status.add_after(ROUTES, self._batch)

    def _protection_changed(self, old: Node | None, new: Node | None) -> None:
        """Another node's address may lie in a subnet that was routed until now, or no longer does."""
        changed = set(old.protected if old else ()) ^ set(new.protected if new else ())
        if any(overlap(subnet, each) for each in changed for subnet in self._routed()):
            for name in self._caches.nodes.names():
                self._queues.nodes.add(name)

    def _routed(self) -> Iterator[IpNetwork]:
        return (subnet for route in self._caches.routes.values() for subnet in route.subnets)

    def _overlay(self, name: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        self._queues.nodes.add(name)
        self._queues.status.add_after(ROUTES, self._batch)
        if new is None and old is not None and old.assignment.address is not None:
            self._wake_waiting()

    def _route(self, _: str, old: StaticRoute | None, new: StaticRoute | None) -> None:
        self._queues.status.add_after(ROUTES, self._batch)
        if old is not None and new is not None and (old.generation, old.zone) == (new.generation, new.zone):
            return
        for node in self._caches.nodes.values():
            if any(route is not None and route.selects(node) for route in (old, new)):
                self._queues.nodes.add(node.name)

    def _pool(self, name: str, old: Pool | None, new: Pool | None) -> None:
        if old is None or new is None or old.generation != new.generation:
            self._queues.pools.add(name)
            self._queues.subnet_map.add("subnetMap")
        if old is None or new is None or old.offer != new.offer:
            for node in self._caches.nodes.names():
                self._queues.nodes.add(node)

    def _record(self, _: str, old: AddressRecord | None, new: AddressRecord | None) -> None:
        for record in (old, new):
            if record is not None:
                self._queues.pools.add_after(record.pool, self._batch)
                self._queues.nodes.add(record.node)
        if new is None:
            self._wake_waiting()

    def _wake_waiting(self) -> None:
        """An address came free."""
        for overlay in self._caches.overlays.values():
            reserved = overlay.assignment.reserved
            if reserved is not None and not reserved.status:
                self._queues.nodes.add(overlay.name)
