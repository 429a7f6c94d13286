"""Reads all reservations of a cluster in phpIPAM, one subnet at a time."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta

from overlay_net.adapters.phpipam.row_table import RowTable
from overlay_net.adapters.phpipam.rows import Row
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.ipam import Inventory
from overlay_net.model.pool import Pool

PARALLEL_SUBNETS = 4


async def read_inventory(
    table: RowTable,
    cluster: str,
    pools: Iterable[Pool],
    find_pool_by_subnet: Callable[[int], Pool | None],
    last_seen_max_age: timedelta,
) -> Inventory:
    """Read every subnet with one call; with ``last_seen_max_age`` one more for rows whose ``lastSeen`` is older.

    A subnet that cannot be read is reported as a problem and does not affect the others.
    """
    names = _pool_names(pools)
    rows, problems = await _read_subnets(table, cluster, names)
    if last_seen_max_age:
        await table.refresh_last_seen([row for each in rows.values() for row in each], last_seen_max_age)
    reservations = (row.to_reservation(find_pool_by_subnet(row.subnet)) for each in rows.values() for row in each)
    return Inventory(
        tuple(each for each in reservations if each is not None),
        frozenset(name for subnet in rows for name in names[subnet]),
        tuple(problems),
    )


def _pool_names(pools: Iterable[Pool]) -> dict[int, list[str]]:
    """Return the names of the pools by subnet id; several pools may share a subnet."""
    names: dict[int, list[str]] = {}
    for pool in pools:
        if pool.subnet_id is not None:
            names.setdefault(pool.subnet_id, []).append(pool.name)
    return names


async def _read_subnets(
    table: RowTable, cluster: str, subnets: Collection[int]
) -> tuple[dict[int, list[Row]], list[str]]:
    """Return the rows of the cluster by subnet, and the errors of subnets that could not be read."""
    limit = asyncio.Semaphore(PARALLEL_SUBNETS)

    async def read(subnet: int) -> list[Row] | OverlayNetError:
        async with limit:
            try:
                return await table.of_cluster(subnet, cluster)
            except OverlayNetError as error:
                return error

    results = dict(zip(subnets, await asyncio.gather(*(read(subnet) for subnet in subnets)), strict=True))
    rows = {subnet: result for subnet, result in results.items() if isinstance(result, list)}
    return rows, [str(result) for result in results.values() if not isinstance(result, list)]
