"""Combines the IPAMs of a cluster: routes each request to the backend of its pool or reservation."""

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from overlay_net.controller.ipam import IpamBackend
from overlay_net.controller.released_records import ReleasedRecords
from overlay_net.model.errors import (
    AddressTaken,
    Conflict,
    Exhausted,
    IpamNotConfigured,
    PoolUnusable,
    Refused,
    Unavailable,
)
from overlay_net.model.ipam import Inventory, Owner, PoolFacts, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool
from overlay_net.runtime.store import Store

NO_PHPIPAM = "phpIPAM is not configured: set phpipam.url, or use a pool with spec.cidr and spec.gateway"

T = TypeVar("T")

_OUTCOMES: dict[type[BaseException], str] = {
    Exhausted: "exhausted",
    AddressTaken: "taken",
    PoolUnusable: "unusable",
    Conflict: "conflict",
    Unavailable: "unavailable",
    Refused: "refused",
}


class Observer(Protocol):
    def observe_ipam_request(self, backend: str, operation: str, outcome: str, seconds: float) -> None: ...


class IpamRouter:
    """``records`` learns what is released, and decides in which pools nothing is."""

    def __init__(
        self, backends: Sequence[IpamBackend], observer: Observer | None = None, records: ReleasedRecords | None = None
    ) -> None:
        self._backends = {backend.name: backend for backend in backends}
        self._observer = observer
        self._records = records or ReleasedRecords(Store(Pool.parse))
        self._unavailable: set[str] = set()

    @property
    def names(self) -> frozenset[str]:
        """The names of the configured IPAMs."""
        return frozenset(self._backends)

    def answers(self, backend: str) -> bool:
        """Return whether the backend with this name answered the last request."""
        return backend not in self._unavailable

    async def find(self, owner: Owner, known: IpAddress | None, *, cached: bool = False) -> tuple[Reservation, ...]:
        """Query every backend, as the node may have an address from a pool of another kind."""
        calls = ((each, each.find(owner, known, cached=cached)) for each in self._backends.values())
        found = await asyncio.gather(*(self._observe(each, "find", call) for each, call in calls))
        return tuple(reservation for each in found for reservation in each)

    async def reserve(
        self, owner: Owner, pool: Pool, requested: IpAddress | None = None, *, adopt: bool = False
    ) -> Reservation:
        backend = self._find_backend(pool)
        self._records.reserving(owner)
        return await self._observe(backend, "reserve", backend.reserve(owner, pool, requested, adopt=adopt))

    async def release(self, reservation: Reservation) -> None:
        self._records.check(reservation)
        backend = self._backends[reservation.ipam]
        await self._observe(backend, "release", backend.release(reservation))
        self._records.released(reservation)

    async def quarantine(self, reservation: Reservation, until: datetime) -> None:
        backend = self._backends[reservation.ipam]
        await self._observe(backend, "quarantine", backend.quarantine(reservation, until))

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        """Read every backend. A pool without a configured one is a problem: it may have records of this cluster."""
        backends = self._backends.values()
        each = [await self._observe(backend, "inventory", backend.inventory(pools)) for backend in backends]
        # A pool without a subnet has never been read, so no address was reserved from it.
        unread = [pool.name for pool in pools if pool.ipam not in self._backends and pool.cidr is not None]
        return Inventory(
            tuple(reservation for one in each for reservation in one.reservations),
            frozenset(name for one in each for name in one.pools),
            (
                *(problem for one in each for problem in one.problems),
                *(f"OverlayPool {name} may have addresses of deleted nodes: {NO_PHPIPAM}" for name in unread),
            ),
        )

    async def inspect_pool(self, pool: Pool) -> PoolFacts:
        backend = self._find_backend(pool)
        return await self._observe(backend, "inspect_pool", backend.inspect_pool(pool))

    def _find_backend(self, pool: Pool) -> IpamBackend:
        backend = self._backends.get(pool.ipam)
        if backend is None:
            raise IpamNotConfigured(NO_PHPIPAM)
        return backend

    async def _observe(self, backend: IpamBackend, operation: str, call: Awaitable[T]) -> T:
        """Await ``call``, and report its outcome and duration to the observer."""
        loop = asyncio.get_running_loop()
        began, outcome = loop.time(), "error"
        try:
            answer = await call
            outcome = "ok"
        except Exception as error:
            outcome = next((name for kind, name in _OUTCOMES.items() if isinstance(error, kind)), "error")
            raise
        finally:
            (self._unavailable.add if outcome == "unavailable" else self._unavailable.discard)(backend.name)
            if self._observer is not None:
                self._observer.observe_ipam_request(backend.name, operation, outcome, loop.time() - began)
        return answer
