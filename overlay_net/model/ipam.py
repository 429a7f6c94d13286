"""What an IPAM knows: who owns an address, the reservation itself, and how full a pool is."""

from dataclasses import dataclass

from overlay_net.model.api import JsonObject
from overlay_net.model.net import IpAddress, IpInterface, IpNetwork
from overlay_net.model.parse import find_address, find_object, parse_text


@dataclass(frozen=True, slots=True)
class Owner:
    """The mark that a reservation carries. ``uid`` tells one incarnation of a node from the next of the same name."""

    cluster: str
    node: str
    uid: str


QUARANTINE = "overlay-net.quarantine"
"""Owner, instead of a node, of an address that somebody unknown uses on the link; its uid is the time until when."""


@dataclass(frozen=True, slots=True)
class Reservation:
    address: IpInterface
    pool: str
    owner: Owner
    record: str
    """The backend's own identity of the record (a uid, a row id): what is released, and nothing else."""
    version: str = ""
    """The record's state as it was read, where the backend can refuse a write for a later one; empty: it cannot."""
    fresh: bool = False
    """Written a moment ago by whoever has this: no decision of before the write can release the record any more."""
    double_assigned: bool = False
    """Somebody had the address first: the IPAM gave it out twice. It may not be used, and goes back."""
    edited: str = ""
    """What of the record somebody changed, for people; it is reported, never fought over."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an IPAM has of one cluster: its reservations, and the names of the pools that were read completely."""

    reservations: tuple[Reservation, ...]
    pools: frozenset[str]
    problems: tuple[str, ...] = ()
    """Why each other pool could not be read."""


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """OverlayAddress: the in-cluster IPAM's record of one address in use."""

    name: str
    uid: str
    resource_version: str
    deleting: bool
    address: IpAddress | None
    """None for an object that somebody else made with a broken spec."""
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
    """Addresses that may be handed out at all: without network, broadcast, gateway and exclusions."""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What an IPAM says of a pool: its subnet, the gateway in it, and how full it is."""

    cidr: IpNetwork
    gateway: IpAddress
    usage: PoolUsage
    marked_full: str = ""
    """Why none is handed out although there may be room: somebody marked the pool as full."""
