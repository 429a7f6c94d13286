"""phpIPAM's address table: reads rows, creates them with an owner tag, and deletes only rows with our owner tag."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from overlay_net.adapters.phpipam.client import Client
from overlay_net.adapters.phpipam.owner_tag import cluster_filter, encode_owner, is_cut_owner_tag, with_owner_tag
from overlay_net.adapters.phpipam.rows import RECORD_PREFIX, Row, parse_number
from overlay_net.model.errors import NotFound, Refused, Unavailable
from overlay_net.model.ipam import Owner

log = logging.getLogger(__name__)

DESCRIPTION = "overlay address of a Kubernetes node"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
TOUCHED_ROWS = 200
"""Rows whose ``lastSeen`` one audit updates, as it waits for them."""


class RowTable:
    """``owner_tag_field`` is the column for the owner tag: ``note``, or a custom field.

    ``sets_last_seen`` is whether new rows get a current ``lastSeen``."""

    def __init__(self, client: Client, owner_tag_field: str, *, sets_last_seen: bool = False) -> None:
        self._client = client
        self._owner_tag_field = owner_tag_field
        self._sets_last_seen = sets_last_seen

    async def read(self, record: str) -> Row:
        """Read the row of ``Reservation.record``. Raises NotFound."""
        return self._parse(await self._client.read_row(parse_number(record.removeprefix(RECORD_PREFIX))))

    async def with_hostname(self, hostname: str) -> list[Row]:
        return self._parse_all(await self._client.search_hostname(hostname))

    async def with_address(self, address: str) -> list[Row]:
        return self._parse_all(await self._client.search_address(address))

    async def at(self, subnet: int, address: str) -> list[Row]:
        """Find the rows of an address in one subnet; other subnets, sections and VRFs may contain the same address."""
        return [row for row in await self.with_address(address) if row.subnet == subnet]

    async def in_subnet(self, subnet: int) -> list[Row]:
        return self._parse_all(await self._client.list_rows(subnet))

    async def of_cluster(self, subnet: int, cluster: str) -> list[Row]:
        """List the rows of a subnet whose owner tag names ``cluster``, filtered by the server."""
        query = {
            "filter_by": self._owner_tag_field,
            "filter_value": cluster_filter(cluster),
            "filter_match": "partial",
        }
        rows = self._parse_all(await self._client.list_rows(subnet, query))
        return [row for row in rows if row.owner is not None and row.owner.cluster == cluster]

    async def create_at_first_free(self, owner: Owner, subnet: int) -> tuple[int, str]:
        """Create a row at the lowest free address. Returns id and address. Raises Exhausted, Conflict, ResponseLost."""
        return await self._client.create_at_first_free(subnet, self._fields(owner))

    async def create(self, owner: Owner, subnet: int, address: str) -> int:
        """Create a row at ``address``. Returns its id. Raises Conflict if there is one already, ResponseLost."""
        return await self._client.create(subnet, address, self._fields(owner))

    async def set_owner(self, row: Row, owner: Owner, **changes: str) -> None:
        """Set the owner tag and the fields in ``changes``. Raises NotFound."""
        await self._set_owner_text(row, with_owner_tag(row.owner_text, owner), **changes)

    async def _set_owner_text(self, row: Row, text: str, **changes: str) -> None:
        await self._client.update(row.subnet, row.id, {self._owner_tag_field: text, **changes, "tag": row.tag})

    async def check_owner_text(self, written: Row, owner: Owner, before: Row | None) -> None:
        """Undo a write whose text the column has cut, which databases without strict SQL mode do not report.

        ``before`` is the row before the write; None if the write created it. Raises Refused after undoing the write.
        """
        text, kept = with_owner_tag(before.owner_text if before else "", owner), written.owner_text
        if written.owner == owner or not kept or not text.startswith(kept):
            return
        if before is None:
            await self._client.delete(written.subnet, written.id)
        else:
            await self._set_owner_text(before, before.owner_text)
        raise Refused(
            f"phpIPAM keeps only {len(kept)} characters in {self._owner_tag_field}, too few for an owner tag;"
            " make the field 512 characters long"
        )

    async def delete_cut(self, rows: Iterable[Row], owner: Owner) -> None:
        """Delete rows of ``owner`` that were never used, because the column has cut the node off their owner tag."""
        for row in rows:
            if is_cut_owner_tag(row.owner_text, owner):
                log.warning("deleting a row whose owner tag was cut", extra={"row": row.id, "address": row.address})
                await self._client.delete(row.subnet, row.id)

    async def refresh_last_seen(self, rows: Iterable[Row], max_age: timedelta) -> None:
        """Set ``lastSeen`` to the current time in the TOUCHED_ROWS oldest of ``rows`` that are older than ``max_age``.

        Rows that cannot be updated now are left for the next audit."""
        now = datetime.now(UTC)
        oldest = (now - max_age).strftime(TIME_FORMAT)
        due = sorted((row for row in rows if row.last_seen < oldest), key=lambda row: (row.last_seen, row.id))
        for row in due[:TOUCHED_ROWS]:
            try:
                fields: dict[str, str | int] = {"lastSeen": now.strftime(TIME_FORMAT), "tag": row.tag}
                await self._client.update(row.subnet, row.id, fields)
            except (NotFound, Refused, Unavailable):
                continue

    async def delete(self, row: Row, owner: Owner) -> None:
        """Delete a row if it belongs to ``owner``. Does nothing if it is gone."""
        if not row.belongs_to(owner):
            log.warning(
                "row no longer carries our owner tag, not deleting it",
                extra={"row": row.id, "address": row.address, "holder": row.holder},
            )
            return
        try:
            await self._client.delete(row.subnet, row.id)
        except NotFound:
            return

    def _fields(self, owner: Owner) -> dict[str, str | int]:
        seen = {"lastSeen": datetime.now(UTC).strftime(TIME_FORMAT)} if self._sets_last_seen else {}
        return {"hostname": owner.node, "description": DESCRIPTION, self._owner_tag_field: encode_owner(owner), **seen}

    def _parse(self, raw: dict[str, object]) -> Row:
        return Row.parse(raw, self._owner_tag_field)

    def _parse_all(self, raws: Iterable[dict[str, object]]) -> list[Row]:
        return [self._parse(raw) for raw in raws]
