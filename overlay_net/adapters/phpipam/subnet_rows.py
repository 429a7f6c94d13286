"""The addresses with a row, in subnets where addresses are chosen here and not by phpIPAM.

phpIPAM's first_free also returns addresses that must not be used: the network address of a subnet that it treats as a
pool, an IPv6 anycast address, a gateway without a row, excluded addresses. One read of such a subnet serves many
reservations. It may be outdated: phpIPAM refuses a second row of an address, so a row that is missing here costs one
more attempt, and one that no longer exists is noticed at the latest when no other address is left.
"""

import asyncio
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from overlay_net.adapters.phpipam.client import Client
from overlay_net.adapters.phpipam.row_table import RowTable
from overlay_net.adapters.phpipam.rows import parse_number
from overlay_net.model.net import IpAddress

MAX_AGE = 600.0
"""Seconds after which a refresh reads the rows again, as some may have been replaced while their number is the same."""

RECENT = 5.0
"""Seconds for which a read counts as present: at most one read in this time, however many nodes wait."""


@dataclass(slots=True)
class KnownRows:
    """The rows of a subnet as last read, with our changes since then."""

    taken: set[IpAddress]
    count: int
    """Number of rows; old versions may have two for one address."""
    read_at: float


@dataclass(slots=True)
class _Subnet:
    known: KnownRows | None = None
    full: bool = False
    """The subnet is marked as full: phpIPAM accepts a row at a chosen address all the same."""
    full_read_at: float | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    claimed: set[IpAddress] = field(default_factory=set)
    """Chosen addresses whose row is being created."""


class SubnetRows:
    """``clock`` is monotonic, in seconds."""

    def __init__(self, client: Client, table: RowTable, clock: Callable[[], float]) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._subnets: dict[int, _Subnet] = {}

    def choose(self, subnet: int) -> None:
        """Choose the addresses of a subnet here from now on."""
        self._subnets.setdefault(subnet, _Subnet())

    def is_chosen(self, subnet: int) -> bool:
        return subnet in self._subnets

    async def read(self, subnet: int, max_age: float) -> KnownRows:
        """Return the rows, read again with one call if they are older than ``max_age``; callers share one read."""
        found = self._subnets.setdefault(subnet, _Subnet())
        async with found.reading:
            if found.known is None or self._clock() - found.known.read_at > max_age:
                found.known = await self._list(subnet)
            return found.known

    async def is_full(self, subnet: int) -> bool:
        """Return whether the subnet is marked as full, read again with one call if that is not recent."""
        found = self._subnets.setdefault(subnet, _Subnet())
        async with found.reading:
            if found.full_read_at is None or self._clock() - found.full_read_at > RECENT:
                self.mark_full(subnet, bool(parse_number((await self._client.read_subnet(subnet)).get("isFull"))))
            return found.full

    def mark_full(self, subnet: int, full: bool) -> None:
        """Set whether the subnet is marked as full at present."""
        found = self._subnets.get(subnet)
        if found is not None:
            found.full, found.full_read_at = full, self._clock()

    async def compare(self, subnet: int, count: int) -> KnownRows:
        """Return the rows, read again with one call if phpIPAM counts another number of them."""
        found = self._subnets.setdefault(subnet, _Subnet())
        async with found.reading:
            known = found.known
            if known is None or known.count != count or self._clock() - known.read_at > MAX_AGE:
                known = found.known = await self._list(subnet)
            return known

    async def _list(self, subnet: int) -> KnownRows:
        began = self._clock()
        rows = await self._table.in_subnet(subnet)
        taken = {row.address for row in rows if row.address is not None}
        return KnownRows(taken, len(rows), began)

    def taken_or_claimed(self, subnet: int, known: KnownRows) -> Container[IpAddress]:
        claimed = self._subnets[subnet].claimed
        return known.taken | claimed if claimed else known.taken

    @contextmanager
    def claim(self, subnet: int, address: IpAddress) -> Iterator[None]:
        """No other reservation of this process chooses the address meanwhile."""
        claimed = self._subnets.setdefault(subnet, _Subnet()).claimed
        claimed.add(address)
        try:
            yield
        finally:
            claimed.discard(address)

    def created(self, subnet: int, address: IpAddress) -> None:
        known = self._known(subnet)
        if known is not None:
            known.taken.add(address)
            known.count += 1

    def deleted(self, subnet: int, address: IpAddress | None) -> None:
        known = self._known(subnet)
        if known is not None and address is not None:
            known.taken.discard(address)
            known.count -= 1

    def refused(self, subnet: int, address: IpAddress) -> None:
        """The address has a row that is not known here: read the subnet again, unless it was read just now."""
        found, known = self._subnets.get(subnet), self._known(subnet)
        if found is None or known is None:
            return
        if self._clock() - known.read_at > RECENT:
            found.known = None
        else:
            known.taken.add(address)
            known.count += 1

    def _known(self, subnet: int) -> KnownRows | None:
        found = self._subnets.get(subnet)
        return found.known if found is not None else None
