"""The overlay addresses in use and their nodes, as reported by the watches and by the responses to our own writes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from overlay_net.domain.allocation.free_addresses import FreeAddresses
from overlay_net.model.api import JsonObject
from overlay_net.model.ipam import AddressRecord
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.runtime.store import Store


class KnownAddresses:
    """A collection of every address with a record or in a NodeOverlayIp; it follows both stores.

    An address in a NodeOverlayIp counts even without a record, because the node uses it.
    """

    def __init__(self, records: Store[AddressRecord], overlays: Store[NodeOverlay]) -> None:
        self._records = records
        self._recorded: dict[str, dict[str, AddressRecord]] = {}
        """The records by node and name."""
        self._nodes: dict[IpAddress, Counter[str]] = {}
        self._free: dict[str, tuple[Pool, FreeAddresses]] = {}
        """By the name of the pool, with the pool as it was then."""
        records.subscribe(self._record_changed)
        overlays.subscribe(self._overlay_changed)

    def add_written(self, raw: JsonObject) -> None:
        """Add a record that this process has written, ahead of the watch."""
        self._records.add_written(raw)

    def _record_changed(self, name: str, old: AddressRecord | None, new: AddressRecord | None) -> None:
        # Added first, so that an address that stays in use is not free in between.
        if new is not None and new.address is not None:
            self._add(new.node, new.address)
        if old is not None and old.address is not None:
            self._remove(old.node, old.address)
            del self._recorded[old.node][name]
            if not self._recorded[old.node]:
                del self._recorded[old.node]
        if new is not None and new.address is not None:
            self._recorded.setdefault(new.node, {})[name] = new

    def _overlay_changed(self, name: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        before, after = _shown(old), _shown(new)
        for address in before - after:
            self._remove(name, address)
        for address in after - before:
            self._add(name, address)

    def _add(self, node: str, address: IpAddress) -> None:
        nodes = self._nodes.get(address)
        if nodes is None:
            nodes = self._nodes[address] = Counter()
            for _, free in self._free.values():
                free.take(address)
        nodes[node] += 1

    def _remove(self, node: str, address: IpAddress) -> None:
        nodes = self._nodes[address]
        nodes[node] -= 1
        if not nodes[node]:
            del nodes[node]
        if not nodes:
            del self._nodes[address]
            for _, free in self._free.values():
                free.release(address)

    def find_records(self, node: str) -> Iterable[AddressRecord]:
        """Return the records of all nodes that have had this name."""
        return tuple(self._recorded.get(node, {}).values())

    def recorded_for(self, node: str) -> Set[IpAddress]:
        """Return the addresses of the node's records."""
        return {each.address for each in self._recorded.get(node, {}).values() if each.address is not None}

    def free_in(self, pool: Pool) -> FreeAddresses:
        """Return the free addresses of a pool, which follow all changes. Raises ValueError if its spec is invalid."""
        found = self._free.get(pool.name)
        if found is None or not found[0].has_same_addresses(pool):
            found = self._free[pool.name] = pool, FreeAddresses(pool, self._nodes)
        return found[1]

    def forget_pool(self, name: str) -> None:
        self._free.pop(name, None)

    def used_by_others(self, node: str, address: IpAddress) -> bool:
        """Return whether a record or a NodeOverlayIp of another node has the address."""
        return any(other != node for other in self._nodes.get(address, ()))

    def nodes_with(self, address: IpAddress) -> Iterable[str]:
        """Return the nodes with a record or a NodeOverlayIp of the address."""
        return self._nodes.get(address, ())

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
