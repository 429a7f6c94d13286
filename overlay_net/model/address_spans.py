"""The addresses that routes cover, to find the other routes that begin inside them."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from overlay_net.model.route_key import RouteKey, decode_network_address, decode_prefix_length, decode_version

_BITS: Final = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class AddressSpans:
    _starts: Mapping[int, Sequence[int]]
    """The first addresses of the widest subnets, sorted, by IP version: subnets never overlap in part."""
    _ends: Mapping[int, Sequence[int]]

    @classmethod
    def covering(cls, keys: Iterable[RouteKey]) -> "AddressSpans":
        """Return the addresses of these routes."""
        starts: dict[int, list[int]] = {4: [], 6: []}
        ends: dict[int, list[int]] = {4: [], 6: []}
        # A subnet sorts after those that contain it, once equal starts are ordered by length.
        for start, length, version in sorted(
            {(decode_network_address(key), decode_prefix_length(key), decode_version(key)) for key in keys}
        ):
            end = start + (1 << (_BITS[version] - length)) - 1
            if not ends[version] or start > ends[version][-1]:
                starts[version].append(start)
                ends[version].append(end)
        return cls(starts, ends)

    def has_version(self, version: int) -> bool:
        """Return whether there are addresses of an IP version."""
        return bool(self._starts[version])

    def has_start(self, destination: int) -> bool:
        """Return whether a destination (see ``decode_destination``) starts at one of the addresses."""
        version, start = destination & 0xFF, destination >> 16
        position = bisect_right(self._starts.get(version, ()), start) - 1
        return position >= 0 and start <= self._ends[version][position]
