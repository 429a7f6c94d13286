"""The controller's view of the cluster: one store for each kind that it watches."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from overlay_net.adapters.kube import KubeApi, KubeSource
from overlay_net.domain.routes.compile import compile_routes
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet, Protection, protected_by
from overlay_net.domain.routes.rollout import find_held_back
from overlay_net.model.ipam import AddressRecord
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_ADDRESSES, OVERLAY_POOLS, STATIC_ROUTES
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import NodeRoutes
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.route_probe import Revision
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store


class KnownAddresses:
    """Every address with a record or on a node's object, as a collection that is updated from both stores.

    An address on an object counts without a record, too: the node uses it, whatever happened to the record.
    """

    def __init__(self, records: Store[AddressRecord], overlays: Store[NodeOverlay]) -> None:
        self._recorded: dict[str, set[IpAddress]] = {}
        self._nodes: dict[IpAddress, Counter[str]] = {}
        records.subscribe(self._record)
        overlays.subscribe(self._overlay)

    def _record(self, _: str, old: AddressRecord | None, new: AddressRecord | None) -> None:
        if old is not None and old.address is not None:
            self._forget(old.node, old.address)
            self._recorded[old.node].discard(old.address)
            if not self._recorded[old.node]:
                del self._recorded[old.node]
        if new is not None and new.address is not None:
            self._keep(new.node, new.address)
            self._recorded.setdefault(new.node, set()).add(new.address)

    def _overlay(self, name: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        for address in _shown(old):
            self._forget(name, address)
        for address in _shown(new):
            self._keep(name, address)

    def _keep(self, node: str, address: IpAddress) -> None:
        self._nodes.setdefault(address, Counter())[node] += 1

    def _forget(self, node: str, address: IpAddress) -> None:
        nodes = self._nodes[address]
        nodes[node] -= 1
        if not nodes[node]:
            del nodes[node]
        if not nodes:
            del self._nodes[address]

    def recorded_for(self, node: str) -> Set[IpAddress]:
        """The addresses of the node's records."""
        return self._recorded.get(node, frozenset())

    def used_by_others(self, node: str, address: IpAddress) -> bool:
        """Whether a record or an object of another node has the address."""
        return any(other != node for other in self._nodes.get(address, ()))

    def __contains__(self, address: object) -> bool:
        return address in self._nodes

    def __iter__(self) -> Iterator[IpAddress]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


@dataclass(frozen=True, slots=True)
class UsedElsewhere:
    """The addresses of all nodes but one."""

    known: KnownAddresses
    node: str

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address | IPv6Address) and self.known.used_by_others(self.node, address)


def _shown(overlay: NodeOverlay | None) -> frozenset[IpAddress]:
    if overlay is None:
        return frozenset()
    return frozenset(
        interface.ip for interface in (overlay.assignment.address, overlay.report.configured) if interface is not None
    )


class Caches:
    def __init__(self) -> None:
        self.nodes: Store[Node] = Store(Node.parse)
        self.overlays: Store[NodeOverlay] = Store(NodeOverlay.parse, NodeOverlay.parse)
        self.routes: Store[StaticRoute] = Store(StaticRoute.parse)
        self.pools: Store[Pool] = Store(Pool.parse)
        self.records: Store[AddressRecord] = Store(AddressRecord.parse)
        self._protection: Protection | None = None
        self._elsewhere: tuple[ProtectedSubnet, ...] = ()
        self._allow_default = False
        self.nodes.subscribe(self._node)
        self.known_addresses = KnownAddresses(self.records, self.overlays)
        self.admitted: Mapping[Revision, frozenset[str]] = {}
        """Nodes that may get a StaticRoute's revision, of those that are rolled out in stages.

        Decided in one place, since two nodes that are reconciled concurrently must not both be the next one. It need
        not survive this process: the next one decides again from the objects.
        """

    def reflectors(self, api: KubeApi) -> tuple[Reflector, ...]:
        return (
            # With their status: routes must not cover the nodes' own addresses.
            Reflector(KubeSource(api, NODES), self.nodes),
            Reflector(KubeSource(api, NODE_OVERLAY_IPS), self.overlays),
            Reflector(KubeSource(api, STATIC_ROUTES), self.routes),
            Reflector(KubeSource(api, OVERLAY_POOLS), self.pools),
            Reflector(KubeSource(api, OVERLAY_ADDRESSES), self.records),
        )

    @property
    def stores(self) -> tuple[Store[Node], Store[NodeOverlay], Store[StaticRoute], Store[Pool], Store[AddressRecord]]:
        return self.nodes, self.overlays, self.routes, self.pools, self.records

    @property
    def synced(self) -> bool:
        return all(store.synced for store in self.stores)

    def pools_in_order(self) -> tuple[Pool, ...]:
        """Lower priority numbers first, then by name."""
        return tuple(sorted(self.pools.values(), key=lambda pool: (pool.priority, pool.name)))

    def has_unexpected_records(self, name: str) -> bool:
        """Whether the watch shows other OverlayAddresses of the node than the one that its object shows."""
        overlay = self.overlays.get(name)
        if overlay is None:
            return False
        address = overlay.assignment.address
        pool = self.pools.get(overlay.assignment.pool)
        if pool is not None and pool.subnet_id is not None:
            # The record is in phpIPAM, which this watch does not cover.
            address = None
        return self.known_addresses.recorded_for(name) != ({address.ip} if address else set())

    def compile_routes_for(self, node: Node, overlay: NodeOverlay | None, gateway: IpAddress | None) -> NodeRoutes:
        """The routes of a node with this object and that overlay gateway."""
        held_back = find_held_back(self.routes.values(), node, overlay, self.admitted)
        return compile_routes(self.routes.values(), node, gateway, self.protection, held_back)

    @property
    def protection(self) -> Protection:
        """What no route may cover; computed again after a change of the nodes or of the other protected subnets."""
        if self._protection is None:
            protected = (*self._elsewhere, *protected_by(self.nodes.values()))
            self._protection = Protection(protected, allow_default=self._allow_default)
        return self._protection

    def protect(self, subnets: Iterable[ProtectedSubnet], *, allow_default: bool) -> None:
        """Protect these in addition to the nodes' own addresses."""
        self._elsewhere = tuple(subnets)
        self._allow_default = allow_default
        self._protection = None

    def _node(self, _: str, old: Node | None, new: Node | None) -> None:
        if (old.protected if old else ()) != (new.protected if new else ()):
            self._protection = None

    def find_pool_by_subnet(self, subnet_id: int) -> Pool | None:
        """The first pool, by priority, of a phpIPAM subnet."""
        return next((pool for pool in self.pools_in_order() if pool.subnet_id == subnet_id), None)
