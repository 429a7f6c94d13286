"""phpIPAM as an IPAM backend: reservations as rows that carry our owner tag.

A row is created only if none is found, and is read back after its creation. It is deleted only by its id, after a read
has confirmed our owner tag. Rows without our tag, including those from which it was removed, are left alone.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from overlay_net.adapters.phpipam.allocation import Allocator
from overlay_net.adapters.phpipam.client import Client
from overlay_net.adapters.phpipam.inventory import read_inventory
from overlay_net.adapters.phpipam.refusals import Refusals
from overlay_net.adapters.phpipam.responses import ResponseLost
from overlay_net.adapters.phpipam.row_table import RowTable
from overlay_net.adapters.phpipam.rows import Row
from overlay_net.adapters.phpipam.subnet_facts import inspect_subnet
from overlay_net.adapters.phpipam.subnet_rows import SubnetRows
from overlay_net.model.errors import Conflict, NotFound, Refused, Unavailable
from overlay_net.model.ipam import PHPIPAM, QUARANTINE, Inventory, Owner, PoolFacts, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.parse import encode_time
from overlay_net.model.pool import Pool

log = logging.getLogger(__name__)

QUARANTINED = "quarantined: in use on the link by an unknown host"


class PhpIpam:
    """``find_pool_by_subnet`` returns the pool of a subnet id, for names and prefix lengths; ``used_by_others`` returns
    whether another node of this cluster than the named one uses an address, with or without a row.

    ``owner_tag_field`` is the column for the owner tag: ``note``, or a custom field. ``lock_wait`` is how long the
    server may still process a request whose response was lost. ``touch`` is the maximum age of ``lastSeen``; zero
    disables its updates. ``changed`` is called when phpIPAM begins or ceases to refuse reservations in a subnet.
    """

    name = PHPIPAM

    def __init__(
        self,
        client: Client,
        cluster: str,
        find_pool_by_subnet: Callable[[int], Pool | None],
        used_by_others: Callable[[str, IpAddress], bool],
        *,
        owner_tag_field: str = "note",
        lock_wait: timedelta = timedelta(seconds=35),
        touch: timedelta = timedelta(),
        clock: Callable[[], float] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._find_pool_by_subnet = find_pool_by_subnet
        self._table = RowTable(client, owner_tag_field, sets_last_seen=bool(touch))
        self._clock = clock or asyncio.get_running_loop().time
        self._rows = SubnetRows(client, self._table, self._clock)
        self._allocator = Allocator(self._table, self._rows, used_by_others)
        self._lock_wait = lock_wait.total_seconds()
        self._touch = touch
        self._refusals = Refusals(self._clock, changed)
        # Nodes whose row may still appear after a lost response, with the time until which it may.
        self._pending: dict[str, float] = {}

    async def find(self, owner: Owner, known: IpAddress | None, *, cached: bool = False) -> tuple[Reservation, ...]:
        """Find rows by hostname with one call, and by ``known`` with a second one, as a hostname may have been changed.

        One more call for each row checks for an older row of the same address. Rows are not watched, so ``cached`` has
        no effect.
        """
        rows = await self._find_rows(owner, known)
        if rows and owner.node in self._pending:
            for row in rows:
                self._client.confirm_write(row.subnet)
            rows = [row for row in rows if row.address == known or not await self._withdraw_unusable(row, owner)]
            self._pending.pop(owner.node, None)
        found = [await self._check_older_rows(row) for row in rows]
        return tuple(reservation for reservation in found if reservation is not None)

    async def reserve(
        self, owner: Owner, pool: Pool, requested: IpAddress | None = None, *, adopt: bool = False
    ) -> Reservation:
        """Create the row and read it back: two calls. The caller has just called ``find``, which found none."""
        self._check_pending(owner)
        try:
            with self._refusals.observe(pool.subnet_id or 0):
                row = await self._allocate(owner, pool, requested, adopt)
        except (ResponseLost, asyncio.CancelledError):
            # The server completes a request whose client has disconnected.
            self._pending[owner.node] = self._clock() + self._lock_wait
            raise
        reservation = self._to_reservation(row)
        assert reservation is not None, "the allocator returns rows with an owner tag and an address"
        return reservation

    async def release(self, reservation: Reservation) -> None:
        """Read the row, check its owner tag, and delete it by its id: two calls.

        Raises Conflict if a later Node of the same name has taken over the row, which is in use again.
        """
        try:
            row = await self._table.read(reservation.record)
        except NotFound:
            return
        if row.address != reservation.address.ip:
            log.warning(
                "row has a different address now, not deleting it",
                extra={"row": row.id, "address": row.address, "expected": reservation.address.ip},
            )
            return
        if row.belongs_to(reservation.owner) and row.owner != reservation.owner:
            raise Conflict(f"row {row.id} of {row.address} now belongs to a later Node {reservation.owner.node}")
        await self._allocator.delete(row, reservation.owner)

    async def quarantine(self, reservation: Reservation, until: datetime) -> None:
        """Replace the node in the owner tag by QUARANTINE: two calls."""
        try:
            row = await self._table.read(reservation.record)
            if row.belongs_to(reservation.owner):
                owner = Owner(self._cluster, QUARANTINE, encode_time(until))
                await self._table.set_owner(row, owner, hostname=QUARANTINE, description=QUARANTINED)
        except NotFound:
            return

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        return await read_inventory(self._table, self._cluster, pools, self._find_pool_by_subnet, self._touch)

    async def inspect_pool(self, pool: Pool) -> PoolFacts:
        facts = await inspect_subnet(self._client, self._rows, pool)
        subnet = pool.subnet_id or 0
        return replace(facts, failure=self._client.find_write_error(subnet) or self._refusals.find(subnet))

    async def _allocate(self, owner: Owner, pool: Pool, requested: IpAddress | None, adopt: bool) -> Row:
        try:
            if requested is None:
                return await self._allocator.allocate(owner, pool)
            return await self._allocator.allocate_requested(owner, pool, requested, adopt=adopt)
        except NotFound as error:
            raise Refused(error.message).during(error.request) from None

    async def _find_rows(self, owner: Owner, known: IpAddress | None) -> list[Row]:
        named = await self._table.with_hostname(owner.node)
        # The address in the node's object may be in use, even if its owner tag was cut later.
        await self._table.delete_cut((row for row in named if row.address != known), owner)
        rows = [row for row in named if row.belongs_to(owner)]
        if rows or known is None:
            return rows
        return [row for row in await self._table.with_address(str(known)) if row.belongs_to(owner)]

    def _check_pending(self, owner: Owner) -> None:
        """Raise Unavailable while a row of the node may still appear."""
        remaining = self._pending.get(owner.node, 0.0) - self._clock()
        if remaining > 0:
            raise Unavailable(
                f"the response to a reservation for node {owner.node} was lost, and its row may still appear",
                retry_after=min(1.0, remaining),
            )
        self._pending.pop(owner.node, None)

    async def _withdraw_unusable(self, row: Row, owner: Owner) -> bool:
        """Delete a row at an unusable address whose creation got no response. Returns whether it was deleted."""
        pool = self._find_pool_by_subnet(row.subnet)
        if pool is None or pool.cidr is None or pool.gateway is None:
            return False
        return await self._allocator.withdraw_unusable(row, owner, pool)

    async def _check_older_rows(self, row: Row) -> Reservation | None:
        """Return the reservation of a row, ``double_assigned`` if an older row has the same address.

        The controller that created the row may have stopped before it could check."""
        reservation = self._to_reservation(row)
        if reservation is None:
            return None
        rows = await self._table.at(row.subnet, str(row.address))
        return replace(reservation, double_assigned=any(each.id < row.id for each in rows))

    def _to_reservation(self, row: Row) -> Reservation | None:
        return row.to_reservation(self._find_pool_by_subnet(row.subnet))
