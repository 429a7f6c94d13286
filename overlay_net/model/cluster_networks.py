"""Subnets of services and pods, parsed from the objects in which Kubernetes, kubeadm and CNIs publish them."""

import re
from collections.abc import Iterable

import yaml

from overlay_net.model.api import JsonObject
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.parse import find_object, find_objects, find_texts, parse_address, parse_network, parse_text


def parse_service_cidr(raw: JsonObject) -> tuple[IpNetwork, ...]:
    return _networks(find_texts(find_object(raw, "spec"), "cidrs"))


def parse_kubeadm_services(raw: JsonObject) -> tuple[IpNetwork, ...]:
    """Parse ``networking.serviceSubnet`` in the ConfigMap kubeadm-config: one subnet, or one of each IP family."""
    text = parse_text(find_object(raw, "data").get("ClusterConfiguration"))
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        return ()
    configuration = parsed if isinstance(parsed, dict) else {}
    return _split(find_object(configuration, "networking").get("serviceSubnet"))


def parse_cluster_ips(raw: JsonObject) -> tuple[IpAddress, ...]:
    """Parse the addresses of a Service; a headless one has none."""
    return _addresses(find_texts(find_object(raw, "spec"), "clusterIPs"))


def parse_endpoints(raw: JsonObject) -> tuple[IpAddress, ...]:
    """Parse the addresses in an EndpointSlice."""
    return _addresses(text for endpoint in find_objects(raw, "endpoints") for text in find_texts(endpoint, "addresses"))


def parse_calico_pool(raw: JsonObject) -> IpNetwork | None:
    """Parse the subnet of an IPPool; None for a disabled one.

    Calico assigns no address from a disabled pool. Such pools are used to exempt other networks from NAT.
    """
    spec = find_object(raw, "spec")
    return None if spec.get("disabled") is True else parse_network(spec.get("cidr"))


def parse_cilium_node(raw: JsonObject) -> tuple[IpNetwork, ...]:
    """Parse the pod subnets of a CiliumNode, in the modes cluster-pool, kubernetes and multi-pool."""
    ipam = find_object(raw, "spec", "ipam")
    allocated = find_objects(find_object(ipam, "pools"), "allocated")
    return _networks(
        (*find_texts(ipam, "podCIDRs"), *(text for pool in allocated for text in find_texts(pool, "cidrs")))
    )


def parse_cilium_config(raw: JsonObject) -> tuple[IpNetwork, ...]:
    """Parse the range of all pod subnets in the ConfigMap cilium-config; other modes than cluster-pool ignore it."""
    data = find_object(raw, "data")
    if data.get("ipam", "cluster-pool") != "cluster-pool":
        return ()
    return (*_split(data.get("cluster-pool-ipv4-cidr")), *_split(data.get("cluster-pool-ipv6-cidr")))


def _split(value: object) -> tuple[IpNetwork, ...]:
    return _networks(re.split(r"[,\s]+", parse_text(value)))


def _networks(texts: Iterable[str]) -> tuple[IpNetwork, ...]:
    return tuple(network for network in map(parse_network, texts) if network is not None)


def _addresses(texts: Iterable[str]) -> tuple[IpAddress, ...]:
    return tuple(address for address in map(parse_address, texts) if address is not None)
