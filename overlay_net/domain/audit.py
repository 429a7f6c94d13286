"""Which reservations belong to nobody any more.

A record is released only after it was seen without its NodeOverlayIp twice, and for at least the grace time: a look
at the IPAM and a look at the cluster are never of the same moment. The caller reads reservations first, owners second.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from overlay_net.model.ipam import Reservation


@dataclass(frozen=True, slots=True)
class AuditResult:
    release: tuple[Reservation, ...]
    suspects: Mapping[str, datetime]
    """When each record without an owner was first seen so; pass it to the next audit."""


def audit(
    reservations: Iterable[Reservation],
    owners: Container[str],
    suspects: Mapping[str, datetime],
    now: datetime,
    grace: timedelta,
) -> AuditResult:
    """``owners`` are the names of all NodeOverlayIps, read after ``reservations``."""
    release: list[Reservation] = []
    seen: dict[str, datetime] = {}
    for reservation in reservations:
        if reservation.owner.node in owners:
            continue
        since = suspects.get(reservation.record)
        seen[reservation.record] = since or now
        if since is not None and now - since >= grace:
            release.append(reservation)
    return AuditResult(tuple(release), seen)
