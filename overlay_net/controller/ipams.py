"""All IPAMs of a cluster as one: each pool and each reservation goes to the backend that keeps it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from overlay_net.controller.ports import IpamBackend
from overlay_net.model.errors import PoolUnusable, Refused
from overlay_net.model.ipam import Inventory, Owner, PoolFacts, Reservation
from overlay_net.model.kernel import IpAddress
from overlay_net.model.pool import Pool

NO_PHPIPAM = "this controller has no phpIPAM connection: set phpipam.url, or use spec.cidr and spec.gateway"


class Ipams:
    def __init__(self, backends: Sequence[IpamBackend]) -> None:
        self._backends = tuple(backends)

    async def find(self, owner: Owner, known: IpAddress | None) -> tuple[Reservation, ...]:
        """Asks every backend: a node may have come from a pool of another kind."""
        found = await asyncio.gather(*(backend.find(owner, known) for backend in self._backends))
        return tuple(reservation for each in found for reservation in each)

    async def reserve(
        self, owner: Owner, pool: Pool, wanted: IpAddress | None = None, *, adopt: bool = False
    ) -> Reservation:
        backend = self._serving(pool)
        if backend is None:
            raise Refused(f"pool {pool.name}: {NO_PHPIPAM}")
        return await backend.reserve(owner, pool, wanted, adopt=adopt)

    async def release(self, reservation: Reservation) -> None:
        for backend in self._backends:
            if backend.keeps(reservation):
                await backend.release(reservation)

    async def quarantine(self, reservation: Reservation, until: datetime) -> None:
        for backend in self._backends:
            if backend.keeps(reservation):
                await backend.quarantine(reservation, until)

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        each = [await backend.inventory(pools) for backend in self._backends]
        return Inventory(
            tuple(reservation for one in each for reservation in one.reservations),
            frozenset(name for one in each for name in one.pools),
            tuple(problem for one in each for problem in one.problems),
        )

    async def look(self, pool: Pool) -> PoolFacts:
        backend = self._serving(pool)
        if backend is None:
            raise PoolUnusable("NoPhpIpam", NO_PHPIPAM)
        return await backend.look(pool)

    def _serving(self, pool: Pool) -> IpamBackend | None:
        return next((backend for backend in self._backends if backend.serves(pool)), None)
