"""Reservations as rows of phpIPAM that carry our owner_tag.

phpIPAM has no transactions with us: an answer may be lost after the row was made, and old versions hand one address out
twice. So a row is looked for before one is made, read back after it was made, and removed by its id only, after reading
it once more and seeing our mark on it. What somebody else made, or edited so that the mark is gone, is left alone.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_interface

from overlay_net.adapters.phpipam import owner_tag
from overlay_net.adapters.phpipam.client import Client
from overlay_net.adapters.phpipam.responses import AnswerLost
from overlay_net.adapters.phpipam.rows import Row, number_of
from overlay_net.adapters.phpipam.subnet_facts import inspect_subnet
from overlay_net.domain.allocation.pool_addresses import free_addresses, may_hand_out
from overlay_net.model.errors import (
    AddressTaken,
    Conflict,
    Exhausted,
    NotFound,
    OverlayNetError,
    Refused,
    Unavailable,
)
from overlay_net.model.ipam import QUARANTINE, Inventory, Owner, PoolFacts, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.parse import encode_time
from overlay_net.model.pool import Pool

log = logging.getLogger(__name__)

DESCRIPTION = "overlay address of a Kubernetes node"
QUARANTINED = "in use on the link by something unknown, kept free"
PREFIX = "phpipam:"
TRIES = 10
PAUSE = 0.05
"""Seconds before an address is asked for again that another client was faster to get."""
PARALLEL_SUBNETS = 4


class PhpIpam:
    """``pool_of`` gives the pool of a subnet id, for names and prefix lengths; ``used_by_others`` says whether another
    node of this cluster than the named one uses an address, with or without a row.

    ``owner_tag_field`` is the column for the owner tag: ``note``, or a custom field. ``lock_wait`` is how long the
    server may still be working on a request whose answer was lost; ``touch`` (zero: never) how old lastSeen may become.
    """

    name = "phpipam"

    def __init__(
        self,
        client: Client,
        cluster: str,
        pool_of: Callable[[int], Pool | None],
        used_by_others: Callable[[str, IpAddress], bool],
        *,
        owner_tag_field: str = "note",
        lock_wait: timedelta = timedelta(seconds=35),
        touch: timedelta = timedelta(),
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._pool_of = pool_of
        self._used_by_others = used_by_others
        self._owner_tag_field = owner_tag_field
        self._lock_wait = lock_wait.total_seconds()
        self._touch = touch
        self._clock = clock or asyncio.get_running_loop().time
        # Nodes whose row may still appear, and until when.
        self._lost: dict[str, float] = {}
        # Subnets whose lowest free address may not be used: there we choose, instead of first_free.
        self._choosing: set[int] = set()
        self._in_flight: set[tuple[int, IpAddress]] = set()

    def serves(self, pool: Pool) -> bool:
        return pool.subnet_id is not None

    def keeps(self, reservation: Reservation) -> bool:
        return reservation.record.startswith(PREFIX)

    # --- Looking -------------------------------------------------------------------------------------------------

    async def find(self, owner: Owner, known: IpAddress | None) -> tuple[Reservation, ...]:
        """One call, by host name; a second one at ``known`` where somebody has changed the host name.

        One more for each row that is found: whether another one of its address is older.
        """
        mine = [row for row in self._rows(await self._client.by_hostname(owner.node)) if row.belongs_to(owner)]
        if not mine and known is not None:
            mine = [row for row in self._rows(await self._client.by_ip(str(known))) if row.belongs_to(owner)]
        if mine and owner.node in self._lost:
            mine = [row for row in mine if row.address == known or not await self._undone(row, owner)]
            self._lost.pop(owner.node, None)
        found = []
        for row in mine:
            reservation = self._reservation(row)
            if reservation is not None:
                # Its maker may have died before it saw that the address was given out twice.
                rows = await self._at(row.subnet, str(row.address))
                found.append(replace(reservation, double_assigned=any(each.id < row.id for each in rows)))
        return tuple(found)

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        """One call for each subnet, whose answer holds our rows only."""
        subnets: dict[int, list[str]] = {}
        for pool in pools:
            if pool.subnet_id is not None:
                subnets.setdefault(pool.subnet_id, []).append(pool.name)
        query = {
            "filter_by": self._owner_tag_field,
            "filter_value": owner_tag.sign_of(self._cluster).rstrip(),
            "filter_match": "partial",
        }
        turn = asyncio.Semaphore(PARALLEL_SUBNETS)

        async def read(subnet: int) -> list[Row] | OverlayNetError:
            async with turn:
                try:
                    return self._rows(await self._client.rows(subnet, query))
                except OverlayNetError as error:
                    return error

        answers = dict(zip(subnets, await asyncio.gather(*(read(subnet) for subnet in subnets)), strict=True))
        rows = [row for answer in answers.values() if isinstance(answer, list) for row in answer]
        ours = [row for row in rows if row.owner is not None and row.owner.cluster == self._cluster]
        reservations = tuple(each for row in ours if (each := self._reservation(row)) is not None)
        if self._touch:
            await self._seen(ours)
        return Inventory(
            reservations,
            frozenset(name for subnet, names in subnets.items() if isinstance(answers[subnet], list) for name in names),
            tuple(str(answer) for answer in answers.values() if not isinstance(answer, list)),
        )

    async def inspect_pool(self, pool: Pool) -> PoolFacts:
        return await inspect_subnet(self._client, pool)

    # --- Reserving -----------------------------------------------------------------------------------------------

    async def reserve(
        self, owner: Owner, pool: Pool, requested: IpAddress | None = None, *, adopt: bool = False
    ) -> Reservation:
        """Two calls: make the row, read it back. The caller has just looked for one, in vain."""
        left = self._lost.get(owner.node, 0.0) - self._clock()
        if left > 0:
            message = "the answer to a reservation was lost, and its row may still appear"
            raise Unavailable(f"{message}; waiting for {left:.0f} s more", retry_after=min(1.0, left))
        self._lost.pop(owner.node, None)
        try:
            if requested is not None:
                return await self._take(owner, pool, requested, adopt)
            for _ in range(TRIES):
                row = await self._any(owner, pool)
                if row is not None and (reservation := self._reservation(row)) is not None:
                    return reservation
        except NotFound as error:
            raise Refused(str(error)) from None
        except (AnswerLost, asyncio.CancelledError):
            # The server finishes a request whose client has gone.
            self._lost[owner.node] = self._clock() + self._lock_wait
            raise
        raise Unavailable(f"phpIPAM subnet {pool.subnet_id}: others were faster {TRIES} times")

    async def _any(self, owner: Owner, pool: Pool) -> Row | None:
        """A row at any free address that may be handed out; None where another try is needed."""
        subnet = pool.subnet_id or 0
        if subnet in self._choosing:
            return await self._choose(owner, pool, subnet)
        try:
            record, text = await self._client.first_free(subnet, self._fields(owner))
        except Conflict:
            await asyncio.sleep(PAUSE)
            return None
        row = await self._confirmed(owner, subnet, record, text)
        if row is not None and not self._usable(pool, owner, row.address):
            # The network's own address in a subnet that is a "pool" there, an IPv6 anycast address, a gateway that has
            # no row, an address in use whose row was removed: it would be handed out again and again.
            self._choosing.add(subnet)
            await self._remove(row, owner)
            return None
        return row

    async def _undone(self, row: Row, owner: Owner) -> bool:
        """Whether a row whose answer was lost stood at an address that may not be handed out, and is removed now."""
        pool = self._pool_of(row.subnet)
        if pool is None or pool.cidr is None or pool.gateway is None or self._usable(pool, owner, row.address):
            return False
        self._choosing.add(row.subnet)
        await self._remove(row, owner)
        return True

    def _usable(self, pool: Pool, owner: Owner, address: IpAddress | None) -> bool:
        return address is not None and may_hand_out(pool, address) and not self._used_by_others(owner.node, address)

    async def _choose(self, owner: Owner, pool: Pool, subnet: int) -> Row | None:
        # A row at a chosen address is made there also where the subnet is marked as full.
        if number_of((await self._client.subnet(subnet)).get("isFull")):
            raise Exhausted(f"phpIPAM subnet {subnet} is marked as full")
        taken = {row.address for row in self._rows(await self._client.rows(subnet)) if row.address is not None}
        taken |= {address for each, address in self._in_flight if each == subnet}
        free = free_addresses(pool, taken)
        address = next((each for each in free if not self._used_by_others(owner.node, each)), None)
        if address is None:
            raise Exhausted(f"phpIPAM subnet {subnet} has no free address that may be handed out")
        self._in_flight.add((subnet, address))
        try:
            record = await self._client.create(subnet, str(address), self._fields(owner))
        except Conflict:
            return None
        finally:
            self._in_flight.discard((subnet, address))
        return await self._confirmed(owner, subnet, record, str(address))

    async def _take(self, owner: Owner, pool: Pool, requested: IpAddress, adopt: bool) -> Reservation:
        """A row at ``wanted``: a new one, or the one there where it is the node's own or may be adopted."""
        subnet = pool.subnet_id or 0
        row: Row | None
        try:
            record = await self._client.create(subnet, str(requested), self._fields(owner))
        except Conflict:
            row = next((each for each in await self._at(subnet, str(requested))), None)
            if row is None:
                raise Unavailable(f"{requested} was released a moment ago", retry_after=PAUSE) from None
            if not (row.belongs_to(owner) or (adopt and row.owner is None)):
                holder = row.holder if row.owner is None else ""
                raise AddressTaken(f"{requested} is recorded for {row.holder}", holder=holder) from None
            change: dict[str, str | int] = {self._owner_tag_field: owner_tag.marked(row.marked, owner), "tag": row.tag}
            if not row.hostname:
                change["hostname"] = owner.node
            try:
                await self._client.update(row.id, change)
            except NotFound:
                raise Unavailable(f"{requested} was released a moment ago", retry_after=PAUSE) from None
            record = row.id
        row = await self._confirmed(owner, subnet, record, str(requested))
        reservation = self._reservation(row) if row is not None else None
        if reservation is None:
            raise AddressTaken(f"{requested} was recorded for somebody else at the same moment")
        return reservation

    async def _confirmed(self, owner: Owner, subnet: int, record: int, address: str) -> Row | None:
        """Our row as the server has it; None where it had to go, as an older row has the same address."""
        rows = sorted(await self._at(subnet, address), key=lambda row: row.id)
        mine = next((row for row in rows if row.id == record), None)
        if mine is None or not mine.belongs_to(owner):
            raise AnswerLost(f"phpIPAM subnet {subnet}: row {record} of {address} is not there")
        if rows[0].id != record:
            log.warning("phpIPAM gave an address twice; the older row stays", extra={"address": address})
            await self._remove(mine, owner)
            return None
        return mine

    async def quarantine(self, reservation: Reservation, until: datetime) -> None:
        """Put QUARANTINE's mark in place of the node's. Two calls."""
        try:
            row = self._row(await self._client.row(number_of(reservation.record.removeprefix(PREFIX))))
            if row.belongs_to(reservation.owner):
                owner = Owner(self._cluster, QUARANTINE, encode_time(until))
                fields: dict[str, str | int] = {
                    self._owner_tag_field: owner_tag.marked(row.marked, owner),
                    "hostname": QUARANTINE,
                    "description": QUARANTINED,
                    "tag": row.tag,
                }
                await self._client.update(row.id, fields)
        except NotFound:
            return

    # --- Releasing -----------------------------------------------------------------------------------------------

    async def release(self, reservation: Reservation) -> None:
        """Read the row, see our mark, delete it by its id. Two calls."""
        try:
            row = self._row(await self._client.row(number_of(reservation.record.removeprefix(PREFIX))))
        except NotFound:
            return
        if row.address != reservation.address.ip:
            log.warning("a row has another address now and is left alone", extra={"row": row.id})
            return
        await self._remove(row, reservation.owner)

    async def _remove(self, row: Row, owner: Owner) -> None:
        if not row.belongs_to(owner):
            log.warning(
                "a row carries our mark no more and is left alone",
                extra={"row": row.id, "address": row.address, "holder": row.holder},
            )
            return
        try:
            await self._client.delete(row.id)
        except NotFound:
            return

    # --- Rows ----------------------------------------------------------------------------------------------------

    async def _at(self, subnet: int, address: str) -> list[Row]:
        """The rows of an address in one subnet: other subnets, sections and VRFs may have the same one."""
        return [row for row in self._rows(await self._client.by_ip(address)) if row.subnet == subnet]

    async def _seen(self, rows: Iterable[Row]) -> None:
        now = datetime.now(UTC)
        oldest = (now - self._touch).strftime("%Y-%m-%d %H:%M:%S")
        for row in rows:
            if row.last_seen < oldest:
                try:
                    await self._client.update(row.id, {"lastSeen": now.strftime("%Y-%m-%d %H:%M:%S"), "tag": row.tag})
                except (NotFound, Refused):
                    continue

    def _fields(self, owner: Owner) -> dict[str, str | int]:
        return {
            "hostname": owner.node,
            "description": DESCRIPTION,
            self._owner_tag_field: owner_tag.encode_owner(owner),
        }

    def _row(self, raw: dict[str, object]) -> Row:
        return Row.parse(raw, self._owner_tag_field)

    def _rows(self, raws: Iterable[dict[str, object]]) -> list[Row]:
        return [self._row(raw) for raw in raws]

    def _reservation(self, row: Row) -> Reservation | None:
        if row.owner is None or row.address is None:
            return None
        pool = self._pool_of(row.subnet)
        prefix = pool.cidr.prefixlen if pool and pool.cidr and row.address in pool.cidr else row.address.max_prefixlen
        edited = "" if row.hostname.lower() == row.owner.node.lower() else f"its host name is {row.hostname!r} now"
        name = pool.name if pool else ""
        return Reservation(ip_interface((row.address, prefix)), name, row.owner, f"{PREFIX}{row.id}", edited=edited)
