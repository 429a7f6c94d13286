"""A Node: its name, its zone, and its own addresses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from typing import Final

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


CNI_ANNOTATIONS: Final = {
    "flannel.alpha.coreos.com/public-ip": "flannel address",
    "flannel.alpha.coreos.com/public-ipv6": "flannel address",
    "projectcalico.org/IPv4Address": "Calico address",
    "projectcalico.org/IPv6Address": "Calico address",
    "projectcalico.org/IPv4IPIPTunnelAddr": "Calico tunnel address",
    "projectcalico.org/IPv4VXLANTunnelAddr": "Calico tunnel address",
    "projectcalico.org/IPv6VXLANTunnelAddr": "Calico tunnel address",
    "projectcalico.org/IPv4WireguardInterfaceAddr": "Calico tunnel address",
    "projectcalico.org/IPv6WireguardInterfaceAddr": "Calico tunnel address",
}
"""Annotations by which CNIs publish an address of the node, some with a prefix length, and the use of the address."""


@dataclass(frozen=True, slots=True)
class NodeInstance:
    """A Node from its creation to its deletion, and one boot of its machine."""

    uid: str = ""
    boot_id: str = ""

    @classmethod
    def parse(cls, raw: JsonObject) -> "NodeInstance":
        return cls(parse_text(raw.get("uid")), parse_text(raw.get("bootID")))

    def to_json(self) -> JsonObject:
        return {"uid": self.uid, "bootID": self.boot_id}

    def may_be(self, other: "NodeInstance") -> bool:
        """Return whether nothing that is known of both is different."""
        pairs = ((self.uid, other.uid), (self.boot_id, other.boot_id))
        return all(one == another for one, another in pairs if one and another)


UNKNOWN_INSTANCE: Final = NodeInstance()


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    uid: str
    labels: Mapping[str, str]
    addresses: tuple[IpAddress, ...] = ()
    """The node's own addresses, as reported by the kubelet or the cloud provider."""
    pod_subnets: tuple[IpNetwork, ...] = ()
    cni_addresses: tuple[tuple[IpAddress, str], ...] = ()
    """Addresses that the CNI of the node publishes in annotations, with their use."""
    taints: tuple[str, ...] = ()
    """Keys of the taints."""
    created: datetime | None = None
    boot_id: str = ""
    """Id of the boot of the machine, as reported by the kubelet (/proc/sys/kernel/random/boot_id)."""

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
            cni_addresses=tuple(_find_cni_addresses(find_object(metadata, "annotations"))),
            taints=tuple(parse_text(taint.get("key")) for taint in find_objects(find_object(raw, "spec"), "taints")),
            created=parse_time(metadata.get("creationTimestamp")),
            boot_id=parse_text(find_object(find_object(raw, "status"), "nodeInfo").get("bootID")),
        )

    @property
    def instance(self) -> NodeInstance:
        return NodeInstance(self.uid, self.boot_id)

    @property
    def protected(self) -> tuple[tuple[IpNetwork, str], ...]:
        """The subnets that no route may cover, with their use: the node's addresses and pod subnets."""
        return (
            *((ip_network(address), "address") for address in self.addresses),
            *((subnet, "pod subnet") for subnet in self.pod_subnets),
            *((ip_network(address), use) for address, use in self.cni_addresses),
        )

    @property
    def zone(self) -> str:
        return first_label(self.labels, ZONE_LABELS)

    @property
    def region(self) -> str:
        return first_label(self.labels, REGION_LABELS)


def _find_cni_addresses(annotations: JsonObject) -> Iterator[tuple[IpAddress, str]]:
    for key, use in CNI_ANNOTATIONS.items():
        if key in annotations:
            address = parse_address(parse_text(annotations[key]).partition("/")[0])
            if address is not None:
                yield address, use
