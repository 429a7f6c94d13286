"""The controller's view of the cluster: one store for each watched kind."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from overlay_net.adapters.kube import KubeApi, KubeSource
from overlay_net.controller.address_demand import AddressDemand
from overlay_net.controller.conflict_counts import ConflictCounts
from overlay_net.controller.known_addresses import KnownAddresses
from overlay_net.controller.node_routes import NodeRouteSets, SliceReports
from overlay_net.controller.protected_by_objects import ProtectedByObjects
from overlay_net.controller.released_records import ReleasedRecords
from overlay_net.controller.slice_index import SliceIndex
from overlay_net.domain.allocation.agent_nodes import has_agent
from overlay_net.domain.allocation.pool_conflicts import find_pool_conflicts, with_other_gateways
from overlay_net.domain.routes.protected_subnets import Protection
from overlay_net.domain.routes.set_users import SetUser, SetUserIndex
from overlay_net.domain.routes.takeover import find_adoptable
from overlay_net.model.conditions import Condition
from overlay_net.model.ipam import AddressRecord
from overlay_net.model.names import (
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_ADDRESSES,
    OVERLAY_POOLS,
    OVERLAY_ROUTE_SLICES,
    STATIC_ROUTES,
    Resource,
)
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import Holder, NodeRoutes
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.route_probe import Revision
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.selectors import EVERY_NODE, Selector
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store


class Caches:
    """``agent_selector`` selects the Nodes on which an agent runs. ``clock`` is that of this process, in seconds."""

    def __init__(self, agent_selector: Selector = EVERY_NODE, clock: Callable[[], float] = time.monotonic) -> None:
        self._agent_selector = agent_selector
        self.nodes: Store[Node] = Store(Node.parse)
        self.overlays: Store[NodeOverlay] = Store(NodeOverlay.parse, NodeOverlay.parse)
        self.routes: Store[StaticRoute] = Store(StaticRoute.parse)
        self.slices: Store[RouteSlice] = Store(RouteSlice.parse, RouteSlice.parse)
        self.pools: Store[Pool] = Store(Pool.parse)
        self.records: Store[AddressRecord] = Store(AddressRecord.parse)
        self.released_records = ReleasedRecords(self.pools)
        self._pools_in_order: tuple[Pool, ...] | None = None
        self._pool_conflicts: Mapping[str, Condition] | None = None
        self.pools.subscribe(self._pool_changed)
        self.protected = ProtectedByObjects(self.nodes, self.overlays, self.pools, self.routes)
        self.slice_index = SliceIndex(self.slices)
        self.slice_reports = SliceReports(self.slices, self.slice_index, clock)
        self.route_sets = NodeRouteSets(self.nodes)
        self.protected.subscribe(lambda _: self.route_sets.unsettle())
        self.set_users = SetUserIndex(self._find_user)
        self.overlays.subscribe(lambda name, _, new: self.set_users.update(name, new))
        self._earlier: dict[str, StaticRoute] = {}
        """The StaticRoutes whose routes an earlier operator has set on some nodes."""
        self.routes.subscribe(self._route_changed)
        self.known_addresses = KnownAddresses(self.records, self.overlays)
        self.demand = AddressDemand(self.nodes, self.overlays, self.pools_in_order)
        self._conflicts = ConflictCounts(self.overlays)
        self.silent_agents: dict[str, timedelta] = {}
        """For at least how long the agents that count as silent are silent, by node. Only AgentLeases sets it."""
        self.admitted: dict[Revision, frozenset[str]] = {}
        """Nodes that may get a revision of a StaticRoute with a staged rollout.

        Only the RolloutReconciler sets it, since two nodes that are reconciled concurrently must not both be the next
        one. It need not survive a restart: it is computed again from the objects.
        """

    def reflectors(self, api: KubeApi, relist: timedelta) -> tuple[Reflector, ...]:
        """``relist`` is the interval in which each kind is listed again even if its watch works."""
        kinds: tuple[tuple[Resource, Store[Any]], ...] = (
            # Nodes with their status, because routes must not cover the nodes' own addresses.
            (NODES, self.nodes),
            (NODE_OVERLAY_IPS, self.overlays),
            (STATIC_ROUTES, self.routes),
            (OVERLAY_ROUTE_SLICES, self.slices),
            (OVERLAY_POOLS, self.pools),
            (OVERLAY_ADDRESSES, self.records),
        )
        seconds = relist.total_seconds()
        return tuple(Reflector(KubeSource(api, resource), store, relist=seconds) for resource, store in kinds)

    @property
    def stores(self) -> tuple[Store[Any], ...]:
        return self.nodes, self.overlays, self.routes, self.slices, self.pools, self.records

    @property
    def synced(self) -> bool:
        return all(store.synced for store in self.stores)

    def has_agent(self, node: Node) -> bool:
        """Return whether the Node gets an overlay address and routes."""
        return has_agent(node, self.overlays.get(node.name), self._agent_selector)

    def agent_nodes(self) -> Iterator[Node]:
        """All Nodes that get an overlay address and routes."""
        return filter(self.has_agent, self.nodes.values())

    def pools_in_order(self) -> tuple[Pool, ...]:
        """All pools by ascending priority number, then by name, with the gateways of each other."""
        if self._pools_in_order is None:
            self._pools_in_order = with_other_gateways(
                sorted(self.pools.values(), key=lambda pool: (pool.priority, pool.name))
            )
        return self._pools_in_order

    @property
    def pool_conflicts(self) -> Mapping[str, Condition]:
        """The pools that contradict another one, by name."""
        if self._pool_conflicts is None:
            self._pool_conflicts = find_pool_conflicts(self.pools.values())
        return self._pool_conflicts

    def find_pool(self, name: str) -> Pool | None:
        """Return the pool with this name, with the gateways of the others."""
        return next((pool for pool in self.pools_in_order() if pool.name == name), None)

    def _pool_changed(self, name: str, _: Pool | None, new: Pool | None) -> None:
        self._pools_in_order = self._pool_conflicts = None
        if new is None:
            self.known_addresses.forget_pool(name)

    def find_holder(self, address: IpAddress) -> Holder | None:
        """Return the node whose NodeOverlayIp has this address as its present one, unless it is about to give it up."""
        for name in self.known_addresses.nodes_with(address):
            node, overlay = self.nodes.get(name), self.overlays.get(name)
            if node is None or overlay is None or overlay.deleting or overlay.assignment.address is None:
                continue
            if overlay.assignment.address.ip == address:
                return Holder(node, overlay)
        return None

    def has_unexpected_records(self, name: str) -> bool:
        """Return whether the node's watched OverlayAddresses differ from the address in its NodeOverlayIp."""
        overlay = self.overlays.get(name)
        if overlay is None:
            return False
        address = overlay.assignment.address
        pool = self.pools.get(overlay.assignment.pool)
        if pool is not None and pool.subnet_id is not None:
            # The record is in phpIPAM, which this watch does not cover.
            address = None
        return self.known_addresses.recorded_for(name) != ({address.ip} if address else set())

    def count_conflicts_with(self, mac: str) -> int:
        """Return how many addresses of all nodes were given up in a row because of the host with this MAC."""
        return self._conflicts.count(mac)

    def find_routes_for(self, node: Node, overlay: NodeOverlay | None, now: datetime) -> NodeRoutes:
        """Look up the routes of a node with this NodeOverlayIp."""
        found = self.route_sets.find(node, overlay, self.admitted, now)
        adoptable = find_adoptable(self._earlier.values(), node, overlay, self.slice_reports.find_observed_subnets)
        return NodeRoutes(found.named, found.complete, adoptable)

    def _find_user(self, name: str) -> SetUser | None:
        """Return a node with its NodeOverlayIp, unless one of them is gone or being deleted."""
        node, overlay = self.nodes.get(name), self.overlays.get(name)
        if node is None or overlay is None or overlay.deleting or not self.has_agent(node):
            return None
        return SetUser(node, overlay, silent=name in self.silent_agents)

    def _route_changed(self, name: str, _: StaticRoute | None, new: StaticRoute | None) -> None:
        self._earlier.pop(name, None)
        if new is not None and new.earlier:
            self._earlier[name] = new

    @property
    def protection(self) -> Protection:
        """The subnets that no route may be added for."""
        return self.protected.protection

    def find_pool_by_subnet(self, subnet_id: int) -> Pool | None:
        """Return the first pool, by priority, of a phpIPAM subnet."""
        return next((pool for pool in self.pools_in_order() if pool.subnet_id == subnet_id), None)
