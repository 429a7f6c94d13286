"""Compares the records of an IPAM with the objects of the cluster.

A record without a NodeOverlayIp is released only if two audits at least the grace time apart found it so, because the
IPAM and the cluster are never read at the same moment. The caller reads records first, then objects. Other mismatches
are not resolved here: the node is checked in the IPAM again, and its plan decides.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from overlay_net.domain.allocation.pool_addresses import is_in_pool
from overlay_net.model.ipam import QUARANTINE, Inventory, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_time
from overlay_net.model.pool import Pool


@dataclass(frozen=True, slots=True)
class AuditResult:
    release: tuple[Reservation, ...]
    orphaned_since: Mapping[str, datetime]
    """The time when each record without an object was first found; pass it to the next audit."""
    mismatched: frozenset[str]
    """Nodes with a record of an address that is not theirs, or with an address that has no record."""
    edited: tuple[Reservation, ...]
    """Records of nodes that were edited by a person; one may have the address that its node uses, or another one."""


def audit(
    inventory: Inventory,
    overlays: Mapping[str, NodeOverlay],
    orphaned_since: Mapping[str, datetime],
    now: datetime,
    grace: timedelta,
    pools: Iterable[Pool] = (),
) -> AuditResult:
    """``overlays`` are all NodeOverlayIps by name, read after ``inventory``; ``pools`` are all pools."""
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
    expired = [each for each in quarantined if _is_expired(each, now)]
    abandoned = [
        each for each in orphaned if (since := orphaned_since.get(each.record)) is not None and now - since >= grace
    ]
    found = {each.record: orphaned_since.get(each.record, now) for each in orphaned}
    return AuditResult(
        release=(*expired, *abandoned),
        orphaned_since=_unread(orphaned_since, inventory) | found,
        mismatched=frozenset(_find_mismatched(inventory, owned, overlays, tuple(pools))),
        edited=tuple(each for each in owned if each.edited and not _is_releasing(each, overlays)),
    )


def _is_expired(quarantined: Reservation, now: datetime) -> bool:
    until = parse_time(quarantined.owner.uid)
    return until is not None and now >= until


def _unread(orphaned_since: Mapping[str, datetime], inventory: Inventory) -> dict[str, datetime]:
    """Return the orphans in pools that could not be read this time; their grace time continues."""
    read = {reservation.record for reservation in inventory.reservations}
    return {record: at for record, at in orphaned_since.items() if record not in read} if inventory.problems else {}


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
