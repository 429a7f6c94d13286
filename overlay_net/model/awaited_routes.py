"""The routes of other processes whose changes concern this node, so that the agent reacts to no others."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from overlay_net.model.route_key import RouteKey


@dataclass(frozen=True, slots=True)
class AwaitedRoutes:
    keys: Set[RouteKey] = frozenset()
    """Keys that our routes have or need: a route of another process with such a key replaces ours or is in its place.
    """
    destinations: Set[int] = frozenset()
    """Destinations in the main table (see ``decode_destination``) that decide on an interface or a gateway of ours."""
    covered: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Sorted addresses by IP version: a route of the main table that covers one of them concerns us as well."""

    def is_covering(self, destination: int) -> bool:
        """Return whether a destination contains one of the ``covered`` addresses."""
        addresses = self.covered.get(destination & 0xFF)
        if not addresses:
            return False
        bits = 32 if destination & 0xFF == 4 else 128
        start, size = destination >> 16, 1 << (bits - (destination >> 8 & 0xFF))
        position = bisect_left(addresses, start)
        return position < len(addresses) and addresses[position] < start + size
