"""A row of phpIPAM's table of addresses, parsed: servers give numbers as text, and custom fields flat or nested."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from overlay_net.adapters.phpipam import owner_tag
from overlay_net.model.ipam import Owner
from overlay_net.model.net import IpAddress
from overlay_net.model.parse import find_object, parse_text

TAG_USED = 2


def number_of(value: object) -> int:
    """phpIPAM gives ids as numbers or as text, by call, by version and by setting; 0 for anything else."""
    try:
        return int(str(value))
    except ValueError:
        return 0


def _address_in(raw: Mapping[str, Any]) -> IpAddress | None:
    """``ip``, which of all rows but the first is a decimal number where rows are searched by host name."""
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
    last_seen: str
    marked: str
    """The text of the field that holds our owner_tag."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any], owner_tag_field: str) -> "Row":
        nested = find_object(raw, "custom_fields")
        return cls(
            id=number_of(raw.get("id")),
            subnet=number_of(raw.get("subnetId")),
            address=_address_in(raw),
            hostname=parse_text(raw.get("hostname")),
            description=parse_text(raw.get("description")),
            tag=number_of(raw.get("tag")) or TAG_USED,
            last_seen=parse_text(raw.get("lastSeen")),
            marked=parse_text(raw.get(owner_tag_field)) or parse_text(nested.get(owner_tag_field)),
        )

    @property
    def owner(self) -> Owner | None:
        """Whose mark the row carries; None for a row that no overlay_net made."""
        return owner_tag.find_owner(self.marked)

    def belongs_to(self, owner: Owner) -> bool:
        """Whether the node, in whichever incarnation, made it."""
        return self.owner is not None and (self.owner.cluster, self.owner.node) == (owner.cluster, owner.node)

    @property
    def holder(self) -> str:
        """What people call it."""
        return self.hostname or self.description or f"row {self.id}"
