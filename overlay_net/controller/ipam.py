"""The port to an IPAM: what the controller needs of it, whichever system is behind it.

Every method raises Unavailable if the IPAM cannot answer, which implies nothing about any reservation, and Refused if
it never will with the present configuration.
"""

from datetime import datetime
from typing import Protocol

from overlay_net.model.errors import ApiError, CredentialsRefused, Unavailable
from overlay_net.model.ipam import Inventory, Owner, PoolFacts, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool


class Ipam(Protocol):
    async def find(self, owner: Owner, known: IpAddress | None) -> tuple[Reservation, ...]:
        """Every reservation with the owner tag of this cluster and node; the uid may be an earlier one.

        ``known`` is the address that the node's object shows: a record of that address is considered as well.
        """
        ...

    async def reserve(
        self, owner: Owner, pool: Pool, requested: IpAddress | None = None, *, adopt: bool = False
    ) -> Reservation:
        """Reserve ``requested`` or any free address, and return what the IPAM has after the write.

        Takes over a record of the same node, and with ``adopt`` one without an owner tag. Raises Exhausted and
        AddressTaken.
        """
        ...

    async def release(self, reservation: Reservation) -> None:
        """Free exactly this record. A record that is gone, or belongs to another owner by now, is no error.

        Raises Conflict if the record was written since it was read, where the backend can detect that.
        """
        ...

    async def quarantine(self, reservation: Reservation, until: datetime) -> None:
        """Hold the address back: its owner becomes QUARANTINE, until the audit releases the record.

        Raises Conflict like ``release``.
        """
        ...

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        """Every reservation of this cluster in those of ``pools`` that the IPAM serves."""
        ...

    async def inspect_pool(self, pool: Pool) -> PoolFacts:
        """Subnet, gateway and usage. Raises PoolUnusable if the pool cannot provide addresses as it is."""
        ...


class IpamBackend(Ipam, Protocol):
    """One of several systems behind the port."""

    @property
    def name(self) -> str:
        """The value of the metric label ``backend``."""
        ...

    def serves(self, pool: Pool) -> bool:
        """Whether the addresses of ``pool`` are recorded in this backend."""
        ...

    def keeps(self, reservation: Reservation) -> bool:
        """Whether the record of ``reservation`` is in this backend."""
        ...


def describe_failure(error: ApiError) -> tuple[str, str]:
    """Reason and message of a condition for an IPAM that fails or refuses requests."""
    match error:
        case CredentialsRefused():
            return "CredentialsRefused", str(error)
        case Unavailable():
            return "IpamUnavailable", str(error)
        case _:
            return "IpamRefused", str(error)
