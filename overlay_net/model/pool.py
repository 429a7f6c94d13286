"""OverlayPool: a range of overlay addresses, and the nodes that it is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import CONSISTENT, READY, Condition, find_condition, parse_conditions
from overlay_net.model.ipam import CLUSTER_IPAM, PHPIPAM
from overlay_net.model.managed_fields import Path
from overlay_net.model.names import SUBNET_MAP_LABEL
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.parse import (
    find_address,
    find_object,
    find_texts,
    parse_address,
    parse_int,
    parse_network,
    parse_text,
)
from overlay_net.model.selectors import Selector

DEFAULT_PRIORITY = 100

POOL_STATUS_FIELDS: Final[frozenset[Path]] = frozenset(
    {("status", each) for each in ("cidr", "gateway", "used", "free", "total")} | {("status", "conditions", CONSISTENT)}
)
"""What the status of a pool may omit."""


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    uid: str
    generation: int
    deleting: bool
    zones: tuple[str, ...]
    selector: Selector
    priority: int
    cidr: IpNetwork | None
    gateway: IpAddress | None
    """For a phpIPAM pool, both come from the pool's status, which has the last reported values despite an outage."""
    subnet_id: int | None
    """Id of the subnet in phpIPAM; None for a pool of the in-cluster IPAM."""
    spec_gateway: IpAddress | None
    """spec.gateway; a phpIPAM pool uses it if no gateway is marked for the subnet on the server."""
    exclude: tuple[tuple[int, int], ...]
    """Inclusive ranges of addresses, as integers of the pool's family."""
    from_subnet_map: bool
    """Created by the controller from phpIPAM.subnetMap."""
    problem: str
    """Why the pool cannot provide addresses; empty if it can."""
    status: Mapping[str, object]
    conditions: tuple[Condition, ...]
    other_gateways: tuple[IpAddress, ...] = ()
    """Gateways of other pools in this subnet, which are not handed out: see domain.allocation.pool_conflicts."""

    @classmethod
    def parse(cls, raw: JsonObject) -> "Pool":
        metadata, spec, status = find_object(raw, "metadata"), find_object(raw, "spec"), find_object(raw, "status")
        conditions = parse_conditions(status)
        subnet_id = parse_int(find_object(spec, "phpIPAM").get("subnetID")) if "phpIPAM" in spec else None
        source = spec if subnet_id is None else status
        cidr, gateway = parse_network(source.get("cidr")), find_address(source, "gateway")
        exclude = {text: parse_range(text) for text in find_texts(spec, "exclude")}
        if subnet_id is not None:
            known = cidr is not None and gateway is not None
            problem = "" if known else _unread_problem(subnet_id, conditions)
        else:
            problem = _spec_problem(spec, cidr, gateway, exclude)
        return cls(
            name=parse_text(metadata.get("name")),
            uid=parse_text(metadata.get("uid")),
            generation=parse_int(metadata.get("generation")),
            deleting="deletionTimestamp" in metadata,
            zones=find_texts(spec, "zones"),
            selector=Selector.parse(find_object(spec, "nodeSelector")),
            priority=parse_int(spec.get("priority"), DEFAULT_PRIORITY),
            cidr=cidr,
            gateway=gateway,
            subnet_id=subnet_id,
            spec_gateway=find_address(spec, "gateway"),
            exclude=tuple(each for each in exclude.values() if each is not None),
            from_subnet_map=SUBNET_MAP_LABEL in find_object(metadata, "labels"),
            problem=problem,
            status=status,
            conditions=conditions,
        )

    @property
    def revision(self) -> tuple[str, int]:
        """Identifies the spec: a pool that was deleted and created again has generation 1 again."""
        return self.uid, self.generation

    def has_same_addresses(self, other: "Pool") -> bool:
        """Return whether the same addresses may be handed out."""
        return (self.cidr, self.gateway, self.other_gateways, self.exclude) == (
            other.cidr,
            other.gateway,
            other.other_gateways,
            other.exclude,
        )

    @property
    def definition(self) -> tuple[object, ...]:
        """The fields that affect nodes; the usage of the pool is not one of them."""
        return self.revision, self.deleting, self.cidr, self.gateway, self.problem

    @property
    def has_room(self) -> bool:
        """Return whether the pool has free addresses according to its status."""
        return self.status.get("free") != 0

    @property
    def ipam(self) -> str:
        """Return the name of the IPAM with the addresses of the pool."""
        return CLUSTER_IPAM if self.subnet_id is None else PHPIPAM

    def serves(self, node: Node) -> bool:
        return (not self.zones or node.zone in self.zones) and self.selector.matches(node.labels)


def _unread_problem(subnet_id: int, conditions: tuple[Condition, ...]) -> str:
    ready = find_condition(conditions, READY)
    return ready.message if ready else f"phpIPAM subnet {subnet_id} has not been read yet"


def _spec_problem(
    spec: JsonObject,
    cidr: IpNetwork | None,
    gateway: IpAddress | None,
    exclude: Mapping[str, tuple[int, int] | None],
) -> str:
    if cidr is None:
        return f"spec.cidr {spec.get('cidr')!r} is not a subnet such as 192.168.100.0/24"
    if gateway is None or gateway not in cidr:
        return f"spec.gateway {spec.get('gateway')!r} is not an address in {cidr}"
    invalid = next((text for text, found in exclude.items() if found is None), None)
    if invalid is not None:
        return f"spec.exclude {invalid!r} is not an address, subnet or range such as 192.168.100.10-192.168.100.20"
    return ""


def parse_range(text: str) -> tuple[int, int] | None:
    """Parse an entry of ``exclude`` (an address, a subnet, or ``first-last``) into an inclusive range."""
    first_text, dash, last_text = text.partition("-")
    if dash:
        first, last = parse_address(first_text.strip()), parse_address(last_text.strip())
        if first is None or last is None or first.version != last.version or int(first) > int(last):
            return None
        return int(first), int(last)
    network = parse_network(text)
    return (int(network.network_address), int(network.broadcast_address)) if network else None
