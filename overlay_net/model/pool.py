"""OverlayPool: where overlay addresses come from, and for which nodes."""

from collections.abc import Mapping
from dataclasses import dataclass

from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import READY, Condition, find, parse_conditions
from overlay_net.model.kernel import IpAddress, IpNetwork
from overlay_net.model.names import SUBNET_MAP_LABEL
from overlay_net.model.node import Node
from overlay_net.model.parse import address_in, address_of, integer_of, network_of, object_of, text_of, texts_of
from overlay_net.model.selectors import Selector

DEFAULT_PRIORITY = 100


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
    """Of a phpIPAM pool both are what the server said last: they stand in its status, through outage and restart."""
    subnet_id: int | None
    """Id of the subnet in phpIPAM; None for a pool that is kept in the cluster."""
    own_gateway: IpAddress | None
    """spec.gateway: of a phpIPAM pool the one to use where the server marks none."""
    exclude: tuple[tuple[int, int], ...]
    """Inclusive ranges of addresses, as integers of the pool's family."""
    mapped: bool
    """Made by the controller from phpIPAM.subnetMap."""
    problem: str
    """Why no address can come from it, or an empty string."""
    status: Mapping[str, object]
    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, raw: JsonObject) -> "Pool":
        metadata, spec, status = object_of(raw, "metadata"), object_of(raw, "spec"), object_of(raw, "status")
        conditions = parse_conditions(status)
        subnet_id = integer_of(object_of(spec, "phpIPAM").get("subnetID")) if "phpIPAM" in spec else None
        source = spec if subnet_id is None else status
        cidr, gateway = network_of(source.get("cidr")), address_in(source, "gateway")
        ranges = [(text, range_of(text)) for text in texts_of(spec, "exclude")]
        problem = ""
        if subnet_id is not None:
            if cidr is None or gateway is None:
                ready = find(conditions, READY)
                problem = ready.message if ready else f"phpIPAM subnet {subnet_id} was not looked at yet"
        elif cidr is None:
            problem = f"spec.cidr {spec.get('cidr')!r} is no subnet such as 192.168.100.0/24"
        elif gateway is None or gateway not in cidr:
            problem = f"spec.gateway {spec.get('gateway')!r} is no address of {cidr}"
        else:
            broken = next((text for text, found in ranges if found is None), None)
            if broken is not None:
                problem = (
                    f"spec.exclude {broken!r} is no address, subnet or range such as 192.168.100.10-192.168.100.20"
                )
        return cls(
            name=text_of(metadata.get("name")),
            uid=text_of(metadata.get("uid")),
            generation=integer_of(metadata.get("generation")),
            deleting="deletionTimestamp" in metadata,
            zones=texts_of(spec, "zones"),
            selector=Selector.parse(object_of(spec, "nodeSelector")),
            priority=integer_of(spec.get("priority"), DEFAULT_PRIORITY),
            cidr=cidr,
            gateway=gateway,
            subnet_id=subnet_id,
            own_gateway=address_in(spec, "gateway"),
            exclude=tuple(found for _, found in ranges if found is not None),
            mapped=SUBNET_MAP_LABEL in object_of(metadata, "labels"),
            problem=problem,
            status=status,
            conditions=conditions,
        )

    @property
    def offer(self) -> tuple[object, ...]:
        """What counts for a node that waits for an address; when it changes, waiting nodes are looked at again."""
        return self.generation, self.deleting, self.cidr, self.gateway, self.problem, self.status.get("free") == 0

    def serves(self, node: Node) -> bool:
        return (not self.zones or node.zone in self.zones) and self.selector.matches(node.labels)


def range_of(text: str) -> tuple[int, int] | None:
    """The inclusive range that one entry of ``exclude`` means: an address, a subnet, or ``first-last``."""
    first_text, dash, last_text = text.partition("-")
    if dash:
        first, last = address_of(first_text.strip()), address_of(last_text.strip())
        if first is None or last is None or first.version != last.version or int(first) > int(last):
            return None
        return int(first), int(last)
    network = network_of(text)
    return (int(network.network_address), int(network.broadcast_address)) if network else None
