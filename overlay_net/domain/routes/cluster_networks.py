"""The subnets of nodes, pods and services, and which of them a subnet overlaps."""

from collections.abc import Iterable, Iterator

from overlay_net.domain.routes.protected_subnets import ProtectedSubnet
from overlay_net.domain.routes.subnet_index import SubnetIndex
from overlay_net.model.net import IpNetwork


class ClusterNetworks:
    """Subnets with their use, by source."""

    def __init__(self) -> None:
        self._index = SubnetIndex()
        self._by_source: dict[str, frozenset[ProtectedSubnet]] = {}

    def replace(self, source: str, subnets: Iterable[ProtectedSubnet]) -> tuple[IpNetwork, ...]:
        """Replace the subnets of ``source``. Returns those that were added or removed."""
        before, after = self._by_source.pop(source, frozenset()), frozenset(subnets)
        if after:
            self._by_source[source] = after
        for each in before - after:
            self._index.remove(each.subnet, each.description)
        for each in after - before:
            self._index.add(each.subnet, each.description)
        return tuple({each.subnet for each in before ^ after})

    def overlapping(self, subnet: IpNetwork) -> Iterator[ProtectedSubnet]:
        """Yield what overlaps ``subnet``: first the subnets that contain it, then those inside it, by their address."""
        for found, descriptions in self._index.overlapping(subnet):
            yield ProtectedSubnet(found, min(descriptions))
