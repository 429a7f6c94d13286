"""Compares the records of an IPAM with the objects of the cluster.

A record without a NodeOverlayIp is released only if two audits at least the grace time apart found it so, because the
IPAM and the cluster are never read at the same moment. The caller reads records first, then objects. A quarantine ends
QUARANTINE_TIME after an audit of this process first found it, as the clock of the machine that began it may be wrong.
Other mismatches are not resolved here: the node is checked in the IPAM again, and its plan decides.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from overlay_net.domain.allocation.conflict import QUARANTINE_TIME
from overlay_net.domain.allocation.pool_addresses import is_in_pool
from overlay_net.domain.allocation.shared_cluster_id import find_shared
from overlay_net.model.ipam import QUARANTINE, Inventory, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool

FirstFound: TypeAlias = Mapping[tuple[str, str], float]
"""When an audit of this process first found a record without an object or in quarantine, in monotonic seconds.

The keys are the record and the uid of its owner.
"""


@dataclass(frozen=True, slots=True)
class AuditResult:
    release: tuple[Reservation, ...]
    first_found: FirstFound
    """Pass it to the next audit."""
    mismatched: frozenset[str]
    """Nodes with a record of an address that is not theirs, or with an address that has no record."""
    edited: tuple[Reservation, ...]
    """Records of nodes that were edited by a person; one may have the address that its node uses, or another one."""
    shared: frozenset[str]
    """Names of the pools in which nothing is released, because another cluster has the same ID."""
    withheld: tuple[Reservation, ...]
    """The orphaned records in these pools."""


def audit(
    inventory: Inventory,
    overlays: Mapping[str, NodeOverlay],
    first_found: FirstFound,
    now: float,
    grace: timedelta,
    pools: Iterable[Pool] = (),
    *,
    has_returned: Callable[[Reservation], bool] = lambda _: False,
    shared: Collection[str] = (),
) -> AuditResult:
    """``overlays`` are all NodeOverlayIps by name, read after ``inventory``; ``pools`` are all pools.

    ``has_returned`` returns whether this process has released such a record before; ``shared`` is the result of the
    previous audit.
    """
    quarantined: list[Reservation] = []
    orphaned: list[Reservation] = []
    owned: list[Reservation] = []
    for reservation in inventory.reservations:
        if reservation.owner.node == QUARANTINE:
            quarantined.append(reservation)
        elif reservation.owner.node in overlays:
            owned.append(reservation)
        else:
            orphaned.append(reservation)

    def find_older(records: Iterable[Reservation], age: timedelta) -> Iterator[Reservation]:
        for each in records:
            found = first_found.get(_key(each))
            if found is not None and now - found >= age.total_seconds():
                yield each

    found = {_key(each): first_found.get(_key(each), now) for each in (*orphaned, *quarantined)}
    shared = find_shared(orphaned, has_returned, shared, inventory)
    expired = (*find_older(quarantined, QUARANTINE_TIME), *find_older(orphaned, grace))
    return AuditResult(
        release=tuple(each for each in expired if each.pool not in shared),
        first_found=_unread(first_found, inventory) | found,
        mismatched=frozenset(_find_mismatched(inventory, owned, overlays, tuple(pools))),
        edited=tuple(each for each in owned if each.edited and not _is_releasing(each, overlays)),
        shared=shared,
        withheld=tuple(each for each in orphaned if each.pool in shared),
    )


def _key(reservation: Reservation) -> tuple[str, str]:
    """Return what identifies the record in its present state: each quarantine of an address has another uid."""
    return reservation.record, reservation.owner.uid


def _unread(first_found: FirstFound, inventory: Inventory) -> dict[tuple[str, str], float]:
    """Return the records in pools that could not be read this time; their times continue."""
    read = {reservation.record for reservation in inventory.reservations}
    return {key: at for key, at in first_found.items() if key[0] not in read} if inventory.problems else {}


def _find_mismatched(
    inventory: Inventory,
    owned: Iterable[Reservation],
    overlays: Mapping[str, NodeOverlay],
    pools: tuple[Pool, ...],
) -> set[str]:
    recorded: set[str] = set()
    unexpected = _find_double_assigned(inventory) & overlays.keys()
    for reservation in owned:
        node = reservation.owner.node
        assignment = overlays[node].assignment
        if _is_used(reservation, overlays) and is_in_pool(reservation, assignment.pool, pools):
            recorded.add(node)
        elif not _is_releasing(reservation, overlays):
            unexpected.add(node)
    missing = {
        name
        for name, overlay in overlays.items()
        if overlay.assignment.address is not None
        and overlay.assignment.pool in inventory.pools
        and name not in recorded
    }
    return unexpected | missing


def _find_double_assigned(inventory: Inventory) -> set[str]:
    """Return the nodes with an address that another node has as well: old versions of phpIPAM may assign one twice."""
    nodes: defaultdict[tuple[str, IpAddress], set[str]] = defaultdict(set)
    for reservation in inventory.reservations:
        nodes[reservation.pool, reservation.address.ip].add(reservation.owner.node)
    return {node for owners in nodes.values() if len(owners) > 1 for node in owners}


def _is_used(reservation: Reservation, overlays: Mapping[str, NodeOverlay]) -> bool:
    address = overlays[reservation.owner.node].assignment.address
    return address is not None and address.ip == reservation.address.ip


def _is_releasing(reservation: Reservation, overlays: Mapping[str, NodeOverlay]) -> bool:
    return str(reservation.address.ip) in overlays[reservation.owner.node].assignment.releasing
