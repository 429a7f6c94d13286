"""What the controller needs of an IPAM, whichever system answers.

Every method raises Unavailable when the IPAM cannot answer; that says nothing about any reservation.
"""

from typing import Protocol

from overlay_net.model.ipam import Owner, PoolUsage, Reservation
from overlay_net.model.kernel import IpAddress
from overlay_net.model.pool import Pool


class Ipam(Protocol):
    async def find(self, owner: Owner) -> tuple[Reservation, ...]:
        """Every reservation that carries the mark of this cluster and node; the uid may be an earlier one."""
        ...

    async def reserve(self, owner: Owner, pool: Pool, wanted: IpAddress | None = None) -> Reservation:
        """Reserve ``wanted`` or any free address; take over a record of the same node. Exhausted, AddressTaken."""
        ...

    async def release(self, reservation: Reservation) -> None:
        """Free exactly this record; one that is gone already is no error."""
        ...

    async def list(self, cluster: str) -> tuple[Reservation, ...]:
        """Every reservation that carries the mark of this cluster."""
        ...

    async def usage(self, pool: Pool) -> PoolUsage: ...
