"""Pools in which another process creates the records of this cluster again after they were released.

It has the same cluster ID: for example, it is the controller of a copy of this cluster from a backup. Each of the two
would release records of nodes that only the other has. No record of such a pool is released until all orphaned
records are gone, which a person deletes after the copy has another ID. The condition of the pool keeps this across
restarts of the controller.
"""

from collections.abc import Callable, Collection, Iterable

from overlay_net.model.conditions import CONSISTENT, Condition, find_condition
from overlay_net.model.ipam import Inventory, Reservation
from overlay_net.model.pool import Pool

SHARED_CLUSTER_ID = "SharedClusterID"
MESSAGE = (
    "released records of this cluster were created again in the IPAM: another cluster has the same cluster ID, such as "
    "a copy from a backup. No address of this pool is released. Set cluster_id in the copy, and delete the records of "
    "nodes that this cluster does not have"
)


def has_shared_id(pool: Pool) -> bool:
    """Return whether the status of the pool has this condition."""
    found = find_condition(pool.conditions, CONSISTENT)
    return found is not None and found.reason == SHARED_CLUSTER_ID


def shared_id_condition(conflict: Condition | None) -> Condition:
    """Return the condition of a pool; ``conflict`` is what else is wrong with it."""
    return Condition(
        CONSISTENT, False, SHARED_CLUSTER_ID, "; ".join((MESSAGE, *([conflict.message] if conflict else [])))
    )


def find_shared(
    orphaned: Iterable[Reservation],
    has_returned: Callable[[Reservation], bool],
    before: Collection[str],
    inventory: Inventory,
) -> frozenset[str]:
    """Return the names of the pools with a released record that has come back.

    One of ``before`` stays as long as it has any orphaned record, or cannot be read.
    """
    records = tuple(orphaned)
    left = {each.pool for each in records}
    returned = {each.pool for each in records if has_returned(each)}
    return frozenset(returned | {name for name in before if name in left or name not in inventory.pools})
