"""A worker node: what it is called, where it is, which addresses are its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from overlay_net.model.api import JsonObject
from overlay_net.model.kernel import IpAddress, IpNetwork
from overlay_net.model.names import REGION_LABELS, ZONE_LABELS
from overlay_net.model.parse import address_of, labels_of, network_of, object_of, objects_of, text_of, texts_of


def first_label(labels: Mapping[str, str], keys: tuple[str, ...]) -> str:
    """The value of the first of ``keys`` that is set, else an empty string."""
    return next((labels[key] for key in keys if labels.get(key)), "")


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    uid: str
    labels: Mapping[str, str]
    addresses: tuple[IpAddress, ...] = ()
    """Its own addresses, as the kubelet or the cloud says."""
    pod_subnets: tuple[IpNetwork, ...] = ()
    taints: tuple[str, ...] = ()
    """Their keys."""
    created: str = ""
    """RFC 3339, whole seconds."""

    @classmethod
    def parse(cls, raw: JsonObject) -> "Node":
        metadata = object_of(raw, "metadata")
        return cls(
            name=text_of(metadata.get("name")),
            uid=text_of(metadata.get("uid")),
            labels=labels_of(object_of(metadata, "labels")),
            addresses=tuple(
                address
                for item in objects_of(object_of(raw, "status"), "addresses")
                if (address := address_of(item.get("address"))) is not None
            ),
            pod_subnets=tuple(
                subnet
                for text in texts_of(object_of(raw, "spec"), "podCIDRs")
                if (subnet := network_of(text)) is not None
            ),
            taints=tuple(text_of(taint.get("key")) for taint in objects_of(object_of(raw, "spec"), "taints")),
            created=text_of(metadata.get("creationTimestamp")),
        )

    @property
    def protected(self) -> tuple[IpNetwork, ...]:
        """What no route may touch: its addresses and its pods' subnets."""
        return (*(ip_network(address) for address in self.addresses), *self.pod_subnets)

    @property
    def zone(self) -> str:
        return first_label(self.labels, ZONE_LABELS)

    @property
    def region(self) -> str:
        return first_label(self.labels, REGION_LABELS)
