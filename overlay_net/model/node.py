"""A Node: its name, its zone, and its own addresses."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network

from overlay_net.model.api import JsonObject
from overlay_net.model.names import REGION_LABELS, ZONE_LABELS
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.parse import (
    find_object,
    find_objects,
    find_texts,
    parse_address,
    parse_labels,
    parse_network,
    parse_text,
    parse_time,
)


def first_label(labels: Mapping[str, str], keys: tuple[str, ...]) -> str:
    """Return the value of the first of ``keys`` that is set, else an empty string."""
    return next((labels[key] for key in keys if labels.get(key)), "")


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    uid: str
    labels: Mapping[str, str]
    addresses: tuple[IpAddress, ...] = ()
    """The node's own addresses, as reported by the kubelet or the cloud provider."""
    pod_subnets: tuple[IpNetwork, ...] = ()
    taints: tuple[str, ...] = ()
    """Keys of the taints."""
    created: datetime | None = None

    @classmethod
    def parse(cls, raw: JsonObject) -> "Node":
        metadata = find_object(raw, "metadata")
        return cls(
            name=parse_text(metadata.get("name")),
            uid=parse_text(metadata.get("uid")),
            labels=parse_labels(find_object(metadata, "labels")),
            addresses=tuple(
                address
                for item in find_objects(find_object(raw, "status"), "addresses")
                if (address := parse_address(item.get("address"))) is not None
            ),
            pod_subnets=tuple(
                subnet
                for text in find_texts(find_object(raw, "spec"), "podCIDRs")
                if (subnet := parse_network(text)) is not None
            ),
            taints=tuple(parse_text(taint.get("key")) for taint in find_objects(find_object(raw, "spec"), "taints")),
            created=parse_time(metadata.get("creationTimestamp")),
        )

    @property
    def protected(self) -> tuple[IpNetwork, ...]:
        """The subnets that no route may cover: the node's addresses and pod subnets."""
        return (*(ip_network(address) for address in self.addresses), *self.pod_subnets)

    @property
    def zone(self) -> str:
        return first_label(self.labels, ZONE_LABELS)

    @property
    def region(self) -> str:
        return first_label(self.labels, REGION_LABELS)
