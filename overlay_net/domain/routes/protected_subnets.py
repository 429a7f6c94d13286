"""Protected subnets: a StaticRoute that overlaps one would cut off nodes, pods or the control plane."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from overlay_net.model.net import IpNetwork
from overlay_net.model.node import Node


@dataclass(frozen=True, slots=True)
class ProtectedSubnet:
    subnet: IpNetwork
    description: str
    """The use of the subnet, for conditions, such as ``address of node 10.176.162.151``."""


def protected_by(nodes: Iterable[Node]) -> Iterable[ProtectedSubnet]:
    """Yield the addresses and pod subnets of ``nodes``."""
    for node in nodes:
        for address in node.addresses:
            yield ProtectedSubnet(ip_network(address), f"address of node {node.name}")
        for subnet in node.pod_subnets:
            yield ProtectedSubnet(subnet, f"pod subnet of node {node.name}")


def overlap(one: IpNetwork, other: IpNetwork) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


class Protection:
    """Checks subnets against all protected ones by binary search, so the cost does not grow with their number."""

    def __init__(self, protected: Iterable[ProtectedSubnet], *, allow_default: bool = False) -> None:
        self._allow_default = allow_default
        self._subnets: dict[tuple[int, int, int], ProtectedSubnet] = {}
        for each in protected:
            subnet = each.subnet
            self._subnets.setdefault((subnet.version, subnet.prefixlen, int(subnet.network_address)), each)
        self._lengths = sorted({(version, length) for version, length, _ in self._subnets})
        self._starts = sorted((version, start, length) for version, length, start in self._subnets)

    def refusal(self, subnet: IpNetwork) -> str:
        """Return why ``subnet`` must not be routed, or an empty string."""
        if subnet.prefixlen == 0:
            return "" if self._allow_default else f"{subnet} is a default route; set allow_default_route to allow it"
        found = self._containing(subnet) or self._inside(subnet)
        return f"{subnet} overlaps {found.subnet} ({found.description})" if found else ""

    def _containing(self, subnet: IpNetwork) -> ProtectedSubnet | None:
        bits, first = subnet.max_prefixlen, int(subnet.network_address)
        for version, length in self._lengths:
            if version == subnet.version and length <= subnet.prefixlen:
                found = self._subnets.get((version, length, first >> (bits - length) << (bits - length)))
                if found is not None:
                    return found
        return None

    def _inside(self, subnet: IpNetwork) -> ProtectedSubnet | None:
        first, last = int(subnet.network_address), int(subnet.broadcast_address)
        position = bisect_left(self._starts, (subnet.version, first, 0))
        if position < len(self._starts):
            version, start, length = self._starts[position]
            if version == subnet.version and start <= last:
                return self._subnets[version, length, start]
        return None


NOTHING = Protection(())
