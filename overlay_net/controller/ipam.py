"""The interface of an IPAM, independent of the backend.

Every method raises Unavailable if the IPAM cannot answer, which implies nothing about any reservation, and Refused if
the request cannot succeed with the present configuration.
"""

from datetime import datetime
from typing import Protocol

from overlay_net.model.errors import ApiError, CredentialsRefused, IpamNotConfigured, SharedClusterId, Unavailable
from overlay_net.model.ipam import Inventory, Owner, PoolFacts, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool


class Ipam(Protocol):
    async def find(self, owner: Owner, known: IpAddress | None, *, cached: bool = False) -> tuple[Reservation, ...]:
        """Find every reservation with the owner tag of this cluster and node; the uid may be an earlier one.

        ``known`` is the address in the node's NodeOverlayIp: a record of that address is considered as well.
        ``cached``: an IPAM that this process watches need not be asked.
        """
        ...

    async def reserve(
        self, owner: Owner, pool: Pool, requested: IpAddress | None = None, *, adopt: bool = False
    ) -> Reservation:
        """Reserve ``requested`` or any free address, and return the reservation as read back from the IPAM.

        Takes over a record of the same node, and with ``adopt`` one without an owner tag. Raises Exhausted and
        AddressTaken.
        """
        ...

    async def release(self, reservation: Reservation) -> None:
        """Release exactly this record. Does nothing if it is gone or belongs to another owner.

        Raises Conflict if the record was written since it was read and the backend can detect that.
        """
        ...

    async def quarantine(self, reservation: Reservation, until: datetime) -> None:
        """Set the owner of the record to QUARANTINE, until the audit releases it.

        Raises Conflict like ``release``.
        """
        ...

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        """Read every reservation of this cluster in the ``pools`` that the IPAM serves."""
        ...

    async def inspect_pool(self, pool: Pool) -> PoolFacts:
        """Read subnet, gateway and usage. Raises PoolUnusable if the pool cannot provide addresses."""
        ...


class IpamBackend(Ipam, Protocol):
    """One of the IPAM systems of a cluster."""

    @property
    def name(self) -> str:
        """``ipam`` of the pools that it serves and of its reservations; the value of the metric label ``backend``."""
        ...


def describe_failure(error: ApiError) -> tuple[str, str]:
    """Return reason and message of a condition for an IPAM that fails or refuses requests."""
    match error:
        case CredentialsRefused():
            return "CredentialsRefused", error.message
        case IpamNotConfigured():
            return "IpamNotConfigured", error.message
        case SharedClusterId():
            return "SharedClusterID", error.message
        case Unavailable():
            return "IpamUnavailable", error.message
        case _:
            return "IpamRefused", error.message
