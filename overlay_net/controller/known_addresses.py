"""The overlay addresses in use and their nodes, as reported by the watches."""

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from overlay_net.model.ipam import AddressRecord
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store


class KnownAddresses:
    """A collection of every address with a record or in a NodeOverlayIp; it follows both stores.

    An address in a NodeOverlayIp counts even without a record, because the node uses it.
    """

    def __init__(self, records: Store[AddressRecord], overlays: Store[NodeOverlay]) -> None:
        self._recorded: dict[str, set[IpAddress]] = {}
        self._nodes: dict[IpAddress, Counter[str]] = {}
        records.subscribe(self._record_changed)
        overlays.subscribe(self._overlay_changed)

    def _record_changed(self, _: str, old: AddressRecord | None, new: AddressRecord | None) -> None:
        if old is not None and old.address is not None:
            self._remove(old.node, old.address)
            self._recorded[old.node].discard(old.address)
            if not self._recorded[old.node]:
                del self._recorded[old.node]
        if new is not None and new.address is not None:
            self._add(new.node, new.address)
            self._recorded.setdefault(new.node, set()).add(new.address)

    def _overlay_changed(self, name: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        for address in _shown(old):
            self._remove(name, address)
        for address in _shown(new):
            self._add(name, address)

    def _add(self, node: str, address: IpAddress) -> None:
        self._nodes.setdefault(address, Counter())[node] += 1

    def _remove(self, node: str, address: IpAddress) -> None:
        nodes = self._nodes[address]
        nodes[node] -= 1
        if not nodes[node]:
            del nodes[node]
        if not nodes:
            del self._nodes[address]

    def recorded_for(self, node: str) -> Set[IpAddress]:
        """Return the addresses of the node's records."""
        return self._recorded.get(node, frozenset())

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
