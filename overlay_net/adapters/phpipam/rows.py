"""A row of phpIPAM's address table, parsed: numbers may be sent as text, and custom fields flat or nested."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Any

from overlay_net.adapters.phpipam.owner_tag import find_owner
from overlay_net.model.ipam import PHPIPAM, QUARANTINE, Owner, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.parse import find_object, parse_text
from overlay_net.model.pool import Pool

TAG_USED = 2
RECORD_PREFIX = "phpipam:"
"""Prefix of ``Reservation.record``, followed by the id of the row."""


def parse_number(value: object) -> int:
    """Parse an id, a number or text depending on call, version and settings; 0 for anything else."""
    try:
        return int(str(value))
    except ValueError:
        return 0


def _parse_address(raw: Mapping[str, Any]) -> IpAddress | None:
    """Parse ``ip``; a search by hostname returns it as a decimal number in all rows but the first."""
    text = str(raw.get("ip"))
    try:
        return ip_address(int(text) if text.isdecimal() else text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Row:
    id: int
    subnet: int
    address: IpAddress | None
    hostname: str
    description: str
    tag: int
    """phpIPAM's own tag of an address: Offline, Used, Reserved, DHCP, or one added by an administrator."""
    last_seen: str
    owner_text: str
    """The text of the field with the owner tag."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any], owner_tag_field: str) -> "Row":
        nested = find_object(raw, "custom_fields")
        return cls(
            id=parse_number(raw.get("id")),
            subnet=parse_number(raw.get("subnetId")),
            address=_parse_address(raw),
            hostname=parse_text(raw.get("hostname")),
            description=parse_text(raw.get("description")),
            tag=parse_number(raw.get("tag")) or TAG_USED,
            last_seen=parse_text(raw.get("lastSeen")),
            owner_text=parse_text(raw.get(owner_tag_field)) or parse_text(nested.get(owner_tag_field)),
        )

    @property
    def owner(self) -> Owner | None:
        """The owner in the owner tag; None for a row that overlay_net did not create."""
        return find_owner(self.owner_text)

    def belongs_to(self, owner: Owner) -> bool:
        """Return whether the owner tag names the same cluster and node; the uid may be that of an earlier Node."""
        return self.owner is not None and (self.owner.cluster, self.owner.node) == (owner.cluster, owner.node)

    @property
    def is_quarantined(self) -> bool:
        return self.owner is not None and self.owner.node == QUARANTINE

    @property
    def holder(self) -> str:
        """The name of the row for messages: that of its node, or what a person called it."""
        if self.owner is not None:
            return f"node {self.owner.node} of cluster {self.owner.cluster}"
        return self.hostname or self.description or f"row {self.id}"

    def to_reservation(self, pool: Pool | None) -> Reservation | None:
        """Return the reservation, or None for a row without an owner tag or a valid address.

        ``pool`` is the pool of the row's subnet, if any.
        """
        owner, address = self.owner, self.address
        if owner is None or address is None:
            return None
        prefix = pool.cidr.prefixlen if pool and pool.cidr and address in pool.cidr else address.max_prefixlen
        edited = "" if self.hostname.lower() == owner.node.lower() else f"hostname was changed to {self.hostname!r}"
        name = pool.name if pool else ""
        record = f"{RECORD_PREFIX}{self.id}"
        return Reservation(ip_interface((address, prefix)), name, owner, record, edited=edited, ipam=PHPIPAM)
