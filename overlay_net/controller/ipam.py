"""What the controller needs of an IPAM, whichever system answers.

Every method raises Unavailable when the IPAM cannot answer, which says nothing about any reservation, and Refused when
it never will as things are set up.
"""

from datetime import datetime
from typing import Protocol

from overlay_net.model.ipam import Inventory, Owner, PoolFacts, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool


class Ipam(Protocol):
    async def find(self, owner: Owner, known: IpAddress | None) -> tuple[Reservation, ...]:
        """Every reservation that carries the mark of this cluster and node; the uid may be an earlier one.

        ``known`` is the address that the node's object shows: there the record is looked for as well.
        """
        ...

    async def reserve(
        self, owner: Owner, pool: Pool, requested: IpAddress | None = None, *, adopt: bool = False
    ) -> Reservation:
        """Reserve ``wanted`` or any free address; take over a record of the same node, or with ``adopt`` one that
        carries nobody's mark. The answer is what the IPAM has after the write. Raises Exhausted, AddressTaken."""
        ...

    async def release(self, reservation: Reservation) -> None:
        """Free exactly this record; one that is gone already, or no longer ours, is no error.

        Raises Conflict where the record was written since it was read, and the backend can tell."""
        ...

    async def quarantine(self, reservation: Reservation, until: datetime) -> None:
        """Keep the address from everybody: its record is QUARANTINE's from now on, until the audit releases it.

        Raises Conflict like ``release``."""
        ...

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        """Every reservation of this cluster in those of ``pools`` that it serves."""
        ...

    async def inspect_pool(self, pool: Pool) -> PoolFacts:
        """Subnet, gateway and usage. Raises PoolUnusable where no address can come from the pool as it is."""
        ...


class IpamBackend(Ipam, Protocol):
    """One of the systems behind it."""

    @property
    def name(self) -> str:
        """What metrics call it."""
        ...

    def serves(self, pool: Pool) -> bool:
        """Whether this backend is the one that keeps ``pool``."""
        ...

    def keeps(self, reservation: Reservation) -> bool:
        """Whether this backend made ``reservation``."""
        ...
