"""Creates rows at any usable address of a subnet, or at a requested one.

Each row is created, read back, and deleted again if its address belongs to another row or must not be used. The API of
phpIPAM has no transactions: a response may be lost after the row was created, and old versions may allocate an address
twice.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from overlay_net.adapters.phpipam.responses import ResponseLost
from overlay_net.adapters.phpipam.row_table import RowTable
from overlay_net.adapters.phpipam.rows import Row
from overlay_net.adapters.phpipam.subnet_facts import must_choose
from overlay_net.adapters.phpipam.subnet_rows import RECENT, KnownRows, SubnetRows
from overlay_net.domain.allocation.pool_addresses import free_addresses, may_hand_out
from overlay_net.model.errors import AddressTaken, Conflict, Exhausted, NotFound, Unavailable
from overlay_net.model.ipam import Owner
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool

log = logging.getLogger(__name__)

ATTEMPTS = 10
RETRY_SECONDS = 0.05
"""Delay before the next attempt after a lost race."""


@dataclass(frozen=True, slots=True)
class CreatedRow:
    """A row as described by the response to its creation or change; ``record`` is its id."""

    subnet: int
    record: int
    address: str
    before: Row | None = None
    """The row before it was taken over; None for a new one."""


class Allocator:
    """``used_by_others`` returns whether another node of this cluster than the named one uses an address, with or
    without a row."""

    def __init__(self, table: RowTable, rows: SubnetRows, used_by_others: Callable[[str, IpAddress], bool]) -> None:
        self._table = table
        self._rows = rows
        self._used_by_others = used_by_others

    async def allocate(self, owner: Owner, pool: Pool) -> Row:
        """Create a row at any usable address. Raises Exhausted, ResponseLost, Unavailable (ATTEMPTS lost races)."""
        for _ in range(ATTEMPTS):
            try:
                created = await self._create(owner, pool)
            except Conflict:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            row = await self._confirm(owner, created)
            if row is not None and not await self.withdraw_unusable(row, owner, pool):
                return row
        raise Unavailable(f"phpIPAM subnet {pool.subnet_id}: lost the allocation race {ATTEMPTS} times")

    async def allocate_requested(self, owner: Owner, pool: Pool, address: IpAddress, *, adopt: bool) -> Row:
        """Create the row of ``address``, or take over an existing row of the same node; with ``adopt`` also one without
        an owner tag. Raises AddressTaken, Unavailable, ResponseLost."""
        subnet = pool.subnet_id or 0
        try:
            created = CreatedRow(subnet, await self._table.create(owner, subnet, str(address)), str(address))
        except Conflict:
            before = await self._take_over(owner, subnet, address, adopt)
            created = CreatedRow(subnet, before.id, str(address), before)
        else:
            self._rows.created(subnet, address)
        row = await self._confirm(owner, created)
        if row is None:
            raise AddressTaken(f"{address} was recorded for another owner in phpIPAM subnet {subnet} at the same time")
        return row

    async def withdraw_unusable(self, row: Row, owner: Owner, pool: Pool) -> bool:
        """Delete a row at an unusable address, such as that of a node whose row was deleted. Returns whether it was
        deleted. From then on addresses are chosen here, as first_free would keep returning it."""
        if row.address is not None and self._may_use(owner, pool, row.address):
            return False
        self._rows.choose(row.subnet)
        await self.delete(row, owner)
        return True

    async def delete(self, row: Row, owner: Owner) -> None:
        """Delete a row if it belongs to ``owner``."""
        await self._table.delete(row, owner)
        if row.belongs_to(owner):
            self._rows.deleted(row.subnet, row.address)

    async def _create(self, owner: Owner, pool: Pool) -> CreatedRow:
        subnet = pool.subnet_id or 0
        if not (must_choose(pool) or self._rows.is_chosen(subnet)):
            return CreatedRow(subnet, *await self._table.create_at_first_free(owner, subnet))
        address = await self._choose_address(owner, pool, subnet)
        with self._rows.claim(subnet, address):
            try:
                record = await self._table.create(owner, subnet, str(address))
            except Conflict:
                self._rows.refused(subnet, address)
                raise
            self._rows.created(subnet, address)
        return CreatedRow(subnet, record, str(address))

    async def _choose_address(self, owner: Owner, pool: Pool, subnet: int) -> IpAddress:
        # phpIPAM rejects first_free on a subnet that is marked as full, but accepts a row at a chosen address.
        if await self._rows.is_full(subnet):
            raise Exhausted(f"phpIPAM subnet {subnet} is marked as full")
        for max_age in (math.inf, RECENT):
            address = self._find_free(owner, pool, await self._rows.read(subnet, max_age))
            if address is not None:
                return address
        raise Exhausted(f"phpIPAM subnet {subnet} has no usable free address")

    def _find_free(self, owner: Owner, pool: Pool, known: KnownRows) -> IpAddress | None:
        free = free_addresses(pool, self._rows.taken_or_claimed(pool.subnet_id or 0, known))
        return next((each for each in free if not self._used_by_others(owner.node, each)), None)

    def _may_use(self, owner: Owner, pool: Pool, address: IpAddress) -> bool:
        return may_hand_out(pool, address) and not self._used_by_others(owner.node, address)

    async def _take_over(self, owner: Owner, subnet: int, address: IpAddress, adopt: bool) -> Row:
        """Set our owner tag on the row of ``address``. Returns it as it was before."""
        rows = await self._table.at(subnet, str(address))
        if not rows:
            raise Unavailable(f"{address} was just released in phpIPAM subnet {subnet}", retry_after=RETRY_SECONDS)
        row = rows[0]
        if not (row.belongs_to(owner) or (adopt and row.owner is None)):
            message = f"{address} is recorded for {row.holder} in phpIPAM subnet {subnet}"
            raise AddressTaken(message, holder="" if row.is_quarantined else row.holder)
        try:
            await self._table.set_owner(row, owner, **({} if row.hostname else {"hostname": owner.node}))
        except NotFound:
            raise Unavailable(
                f"{address} was just released in phpIPAM subnet {subnet}", retry_after=RETRY_SECONDS
            ) from None
        return row

    async def _confirm(self, owner: Owner, created: CreatedRow) -> Row | None:
        """Read the row back; None if an older row has the same address, in which case ours is deleted."""
        rows = sorted(await self._table.at(created.subnet, created.address), key=lambda row: row.id)
        own = next((row for row in rows if row.id == created.record), None)
        if own is not None:
            await self._table.check_owner_text(own, owner, created.before)
        if own is None or own.address is None or not own.belongs_to(owner):
            raise ResponseLost(
                f"phpIPAM subnet {created.subnet}: row {created.record} for {created.address} was not found"
            )
        if rows[0].id != own.id:
            log.warning(
                "phpIPAM allocated an address twice, deleting the newer row",
                extra={"address": created.address, "row": own.id, "older_row": rows[0].id},
            )
            await self.delete(own, owner)
            return None
        return own
