"""Networks that are cheap to look up: a rule may name 1,000 of them, and a node may have as many routes."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property

from overlay_net.model.net import IpNetwork


class Networks:
    def __init__(self, networks: Iterable[IpNetwork]) -> None:
        self._networks = tuple(dict.fromkeys(networks))

    def __iter__(self) -> Iterator[IpNetwork]:
        return iter(self._networks)

    def contains(self, subnet: IpNetwork) -> bool:
        """Return whether one of them is the subnet, or contains it."""
        return any(
            version == subnet.version and length <= subnet.prefixlen and _first_bits(subnet, length) in starts
            for (version, length), starts in self._starts.items()
        )

    def find_inside(self, subnet: IpNetwork) -> Iterator[IpNetwork]:
        """Yield those that are a part of the subnet, without a check of all others."""
        last = int(subnet.broadcast_address)
        for position in range(bisect_right(self._ordered, _position(subnet), key=_position), len(self._ordered)):
            found = self._ordered[position]
            if found.version != subnet.version or int(found.network_address) > last:
                return
            yield found

    @cached_property
    def _starts(self) -> dict[tuple[int, int], set[int]]:
        """The first bits of the networks, by version and length of the prefix."""
        found: dict[tuple[int, int], set[int]] = {}
        for each in self._networks:
            found.setdefault((each.version, each.prefixlen), set()).add(_first_bits(each, each.prefixlen))
        return found

    @cached_property
    def _ordered(self) -> list[IpNetwork]:
        return sorted(self._networks, key=_position)


def _first_bits(subnet: IpNetwork, length: int) -> int:
    return int(subnet.network_address) >> (subnet.max_prefixlen - length)


def _position(network: IpNetwork) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen
