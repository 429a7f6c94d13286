"""The controller's view of the cluster: one store for each kind that it reads."""

from collections.abc import Iterator, Set

from overlay_net.adapters.kube import KubeApi, KubeSource
from overlay_net.model.ipam import AddressRecord
from overlay_net.model.kernel import IpAddress
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_ADDRESSES, OVERLAY_POOLS, STATIC_ROUTES
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store


class KnownAddresses:
    """The addresses of all records, as a collection that follows its store."""

    def __init__(self, records: Store[AddressRecord]) -> None:
        self._addresses: set[IpAddress] = set()
        self._of_node: dict[str, set[IpAddress]] = {}
        records.subscribe(self._follow)

    def _follow(self, _: str, old: AddressRecord | None, new: AddressRecord | None) -> None:
        if old is not None and old.address is not None:
            self._addresses.discard(old.address)
            self._of_node[old.node].discard(old.address)
            if not self._of_node[old.node]:
                del self._of_node[old.node]
        if new is not None and new.address is not None:
            self._addresses.add(new.address)
            self._of_node.setdefault(new.node, set()).add(new.address)

    def of_node(self, name: str) -> Set[IpAddress]:
        return self._of_node.get(name, frozenset())

    def __contains__(self, address: object) -> bool:
        return address in self._addresses

    def __iter__(self) -> Iterator[IpAddress]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)


class Caches:
    def __init__(self) -> None:
        self.nodes: Store[Node] = Store(Node.parse)
        self.overlays: Store[NodeOverlay] = Store(NodeOverlay.parse)
        self.routes: Store[StaticRoute] = Store(StaticRoute.parse)
        self.pools: Store[Pool] = Store(Pool.parse)
        self.records: Store[AddressRecord] = Store(AddressRecord.parse)
        self.known_addresses = KnownAddresses(self.records)

    def reflectors(self, api: KubeApi) -> tuple[Reflector, ...]:
        return (
            # Labels and the uid are all that is read of a node: its status would be most of the traffic.
            Reflector(KubeSource(api, NODES, metadata_only=True), self.nodes),
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

    def records_differ(self, overlay: NodeOverlay) -> bool:
        """Whether the node has other records than that of its address, as far as the watch has come."""
        address = overlay.assignment.address
        return self.known_addresses.of_node(overlay.name) != ({address.ip} if address else set())
