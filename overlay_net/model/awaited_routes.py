"""The routes of other processes that matter to this node, so that the agent reads and follows no others."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from overlay_net.model.route import MAIN_TABLE, RTPROT_KERNEL, RTPROT_RA, Route
from overlay_net.model.route_key import RouteKey, decode_destination, decode_table

_IPV6_DEFAULT: Final = 6
"""The destination ``::/0`` (see ``decode_destination``)."""


@dataclass(frozen=True, slots=True)
class AwaitedRoutes:
    keys: Set[RouteKey] = frozenset()
    """Keys that our routes have or need: a route of another process with such a key replaces ours or is in its place.
    """
    destinations: Set[int] = frozenset()
    """Destinations in the main table (see ``decode_destination``) that decide on an interface or a gateway of ours."""
    overlay: int | None = None
    """The overlay subnet as a destination: a route of another process may win over the connected one."""
    covered: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Sorted addresses by IP version: a route of the main table that covers one of them concerns us as well."""
    tables: Set[int] = frozenset()
    """Tables of which a plan needs all routes, although not every change of them concerns us."""
    _possible: Set[int | None] = field(init=False, repr=False, compare=False)
    """Destinations of ``keys``, ``destinations`` and ``overlay``."""

    def __post_init__(self) -> None:
        possible = chain(self.destinations, map(decode_destination, self.keys), (self.overlay,))
        # Of ten thousand numbers, a dict takes half the memory of a set.
        object.__setattr__(self, "_possible", dict.fromkeys(possible).keys())

    @property
    def own_tables(self) -> Set[int]:
        """The tables that our routes are in, unless they are obsolete."""
        return {MAIN_TABLE, *self.tables, *map(decode_table, self.keys)}

    def may_concern(self, destination: int) -> bool:
        """Return whether a change of a route to this destination may concern us; cheap, for a hundred thousand."""
        return destination in self._possible or self._is_covering(destination)

    def may_need_derived(self, destination: int) -> bool:
        """Return whether a plan may need a route to this destination that the kernel derives from an address.

        If one has a key of ours, all routes are read in any case.
        """
        return destination == self.overlay or destination in self.destinations or self._is_covering(destination)

    def concerns(self, route: Route) -> bool:
        """Return whether a change of this route of another process concerns us."""
        if route.key in self.keys:
            return True
        destination = decode_destination(route.key)
        return route.table == MAIN_TABLE and (
            destination in self.destinations
            or self._is_covering(destination)
            or (destination == self.overlay and route.protocol != RTPROT_KERNEL)
        )

    def needs(self, route: Route) -> bool:
        """Return whether a plan needs to know this route of another process."""
        if route.table in self.tables or self.concerns(route):
            return True
        if route.protocol == RTPROT_KERNEL:
            # If the overlay link is in a VRF, its connected route is in the table of the VRF.
            return decode_destination(route.key) == self.overlay
        # The kernel would delete it if the overlay link became a router for IPv6.
        return route.protocol == RTPROT_RA and decode_destination(route.key) == _IPV6_DEFAULT

    def _is_covering(self, destination: int) -> bool:
        """Return whether a destination contains one of the ``covered`` addresses."""
        addresses = self.covered.get(destination & 0xFF)
        if not addresses:
            return False
        bits = 32 if destination & 0xFF == 4 else 128
        start, size = destination >> 16, 1 << (bits - (destination >> 8 & 0xFF))
        position = bisect_left(addresses, start)
        return position < len(addresses) and addresses[position] < start + size
