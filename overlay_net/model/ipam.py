"""Reservations of an IPAM, their owners, and the usage of a pool."""

from dataclasses import dataclass
from typing import Final

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ApiError
from overlay_net.model.net import IpAddress, IpInterface, IpNetwork
from overlay_net.model.parse import find_address, find_object, parse_text

CLUSTER_IPAM: Final = "cluster"
PHPIPAM: Final = "phpipam"


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner tag of a reservation. ``uid`` distinguishes a node from a later one of the same name."""

    cluster: str
    node: str
    uid: str


QUARANTINE = "overlay-net.quarantine"
"""Owner of a quarantined address, in place of a node; its uid is the end of the quarantine."""


@dataclass(frozen=True, slots=True)
class Reservation:
    address: IpInterface
    pool: str
    owner: Owner
    record: str
    """The backend's identifier of the record, such as a uid or row id: exactly this record is released."""
    version: str = ""
    """The version that was read, if the backend supports conditional writes; otherwise empty."""
    fresh: bool = False
    """The caller has just written the record, so a release that was decided before the write fails."""
    double_assigned: bool = False
    """The IPAM assigned the address twice, and the other record is older: this one is released, not used."""
    edited: str = ""
    """How a person edited the record, as message text; edits are reported, never reverted."""
    ipam: str = CLUSTER_IPAM
    """The IPAM that has the record."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The reservations of one cluster in an IPAM, and the names of the pools that were read completely."""

    reservations: tuple[Reservation, ...]
    pools: frozenset[str]
    problems: tuple[str, ...] = ()
    """Why the other pools could not be read."""


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """OverlayAddress: the record of one address in use in the in-cluster IPAM."""

    name: str
    uid: str
    resource_version: str
    deleting: bool
    address: IpAddress | None
    """None if the spec is invalid: such an object was not created by the controller."""
    pool: str
    node: str
    node_uid: str

    @classmethod
    def parse(cls, raw: JsonObject) -> "AddressRecord":
        metadata, spec = find_object(raw, "metadata"), find_object(raw, "spec")
        return cls(
            name=parse_text(metadata.get("name")),
            uid=parse_text(metadata.get("uid")),
            resource_version=parse_text(metadata.get("resourceVersion")),
            deleting="deletionTimestamp" in metadata,
            address=find_address(spec, "address"),
            pool=parse_text(spec.get("pool")),
            node=parse_text(spec.get("node")),
            node_uid=parse_text(spec.get("nodeUID")),
        )


@dataclass(frozen=True, slots=True)
class PoolUsage:
    used: int
    free: int
    total: int
    """Addresses that may be handed out, without network, broadcast, gateway and exclusions."""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """Subnet, gateway and usage of a pool, as reported by the IPAM."""

    cidr: IpNetwork
    gateway: IpAddress
    usage: PoolUsage
    marked_full: str = ""
    """A message if the pool is marked as full in the IPAM, so that no address is handed out even if some are free."""
    failure: ApiError | None = None
    """Why the IPAM makes no reservations in this pool now, although it can be read."""
