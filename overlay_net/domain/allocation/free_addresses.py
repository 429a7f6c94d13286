"""The free addresses of one pool, kept up to date address by address.

A reservation neither lists the pool nor passes over the addresses in use: with thousands of them, each joining node
would cost more than the one before.
"""

from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator

from overlay_net.domain.allocation.pool_addresses import blocked_ranges
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool


class FreeAddresses:
    """Disjoint ranges of addresses, ascending; ``taken`` are those in use, of any pool.

    Raises ValueError for a pool with an invalid spec.
    """

    def __init__(self, pool: Pool, taken: Iterable[IpAddress] = ()) -> None:
        blocked = blocked_ranges(pool)
        assert pool.cidr is not None, "blocked_ranges checks the pool"
        self._family = type(pool.cidr.network_address)
        self._usable = _between(blocked, int(pool.cidr.network_address), int(pool.cidr.broadcast_address))
        self._starts, self._ends = [low for low, _ in self._usable], [high for _, high in self._usable]
        self._usable_starts = tuple(self._starts)
        self.total = sum(high - low + 1 for low, high in self._usable)
        """How many addresses may be handed out."""
        self.used = 0
        """How many of them are in use."""
        for address in taken:
            self.take(address)

    def take(self, address: IpAddress) -> None:
        """Do nothing for an address that is not free."""
        number = int(address)
        at = bisect_right(self._starts, number) - 1
        if not isinstance(address, self._family) or at < 0 or number > self._ends[at]:
            return
        low, high = self._starts[at], self._ends[at]
        rest = [each for each in ((low, number - 1), (number + 1, high)) if each[0] <= each[1]]
        self._starts[at : at + 1] = [start for start, _ in rest]
        self._ends[at : at + 1] = [end for _, end in rest]
        self.used += 1

    def release(self, address: IpAddress) -> None:
        """Do nothing for an address that is free, or that is never handed out."""
        number = int(address)
        at = bisect_right(self._starts, number)
        if (
            not isinstance(address, self._family)
            or (at and number <= self._ends[at - 1])
            or not self._is_usable(number)
        ):
            return
        # Adjacent ranges stay apart: there are never more ranges than addresses that were once in use.
        self._starts.insert(at, number)
        self._ends.insert(at, number)
        self.used -= 1

    def lowest(self, skipped: Container[IpAddress] = ()) -> IpAddress | None:
        """Return the lowest free address that is not in ``skipped``."""
        for low, high in zip(self._starts, self._ends, strict=True):
            for number in range(low, high + 1):
                address = self._family(number)
                if address not in skipped:
                    return address
        return None

    def _is_usable(self, number: int) -> bool:
        at = bisect_right(self._usable_starts, number) - 1
        return at >= 0 and number <= self._usable[at][1]


def _between(blocked: Iterable[tuple[int, int]], first: int, last: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges from ``first`` to ``last`` that ``blocked`` leaves; all are inclusive and ascending."""

    def gaps() -> Iterator[tuple[int, int]]:
        start = first
        for low, high in blocked:
            if start < low:
                yield start, low - 1
            start = high + 1
        if start <= last:
            yield start, last

    return tuple(gaps())
