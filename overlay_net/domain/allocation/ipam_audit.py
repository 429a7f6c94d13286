"""Where the records of an IPAM and the objects of the cluster do not agree.

A record without its NodeOverlayIp is released only after it was seen so twice, and for at least the grace time: a look
at the IPAM and a look at the cluster are never of the same moment. The caller reads records first, objects second.
Everything else that disagrees is not decided here: its node is looked at again, by the plan that always decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from overlay_net.model.ipam import QUARANTINE, Inventory, Reservation
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_time


@dataclass(frozen=True, slots=True)
class AuditResult:
    release: tuple[Reservation, ...]
    suspects: Mapping[str, datetime]
    """When each record without an owner was first seen so; pass it to the next audit."""
    doubtful: frozenset[str]
    """Nodes with a record that is not of their address, or with an address that has no record."""
    edited: tuple[Reservation, ...]
    """Records in use that somebody changed."""


def _unread(suspects: Mapping[str, datetime], inventory: Inventory) -> dict[str, datetime]:
    """First sightings of records in pools that could not be read this time: their grace time goes on."""
    read = {reservation.record for reservation in inventory.reservations}
    return {record: since for record, since in suspects.items() if record not in read} if inventory.problems else {}


def audit(
    inventory: Inventory,
    overlays: Mapping[str, NodeOverlay],
    suspects: Mapping[str, datetime],
    now: datetime,
    grace: timedelta,
) -> AuditResult:
    """``overlays`` are all NodeOverlayIps by name, read after ``inventory``."""
    release: list[Reservation] = []
    seen = _unread(suspects, inventory)
    doubtful = _twice(inventory)
    recorded: set[str] = set()
    edited: list[Reservation] = []
    for reservation in inventory.reservations:
        if reservation.owner.node == QUARANTINE:
            until = parse_time(reservation.owner.uid)
            if until is not None and now >= until:
                release.append(reservation)
            continue
        overlay = overlays.get(reservation.owner.node)
        if overlay is None:
            since = suspects.get(reservation.record)
            seen[reservation.record] = since or now
            if since is not None and now - since >= grace:
                release.append(reservation)
            continue
        if _uses(overlay, reservation):
            recorded.add(overlay.name)
            if reservation.edited:
                edited.append(reservation)
        elif str(reservation.address.ip) not in overlay.assignment.releasing:
            doubtful.add(overlay.name)
    doubtful &= overlays.keys()
    doubtful |= {
        name
        for name, overlay in overlays.items()
        if overlay.assignment.address is not None
        and overlay.assignment.pool in inventory.pools
        and name not in recorded
    }
    return AuditResult(tuple(release), seen, frozenset(doubtful), tuple(edited))


def _twice(inventory: Inventory) -> set[str]:
    """Nodes that have an address which another node has as well: old versions of phpIPAM give one out twice."""
    nodes: dict[tuple[str, str], set[str]] = {}
    for reservation in inventory.reservations:
        nodes.setdefault((reservation.pool, str(reservation.address.ip)), set()).add(reservation.owner.node)
    return {node for owners in nodes.values() if len(owners) > 1 for node in owners}


def _uses(overlay: NodeOverlay, reservation: Reservation) -> bool:
    address = overlay.assignment.address
    return address is not None and address.ip == reservation.address.ip
