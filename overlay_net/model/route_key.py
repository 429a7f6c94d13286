"""RouteKey: destination, metric and routing table, which identify a route in the kernel, as a single number."""

from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

RouteKey: TypeAlias = int
"""From the highest bits down: network address, prefix length (8), IP version (8), metric (32), table (32).

Networks of the standard library are ten times as slow to hash and to compare, and a tuple takes three times the memory.
"""

IPV6_DEFAULT_METRIC = 1024
"""The metric that the kernel stores for an IPv6 route without one (IP6_RT_PRIO_USER in ip6_route_info_create)."""


def encode_route_key(subnet: IPv4Network | IPv6Network, metric: int, table: int) -> RouteKey:
    """Encode the key of a route in the kernel: an IPv6 metric of 0 becomes the kernel's default."""
    if metric == 0 and subnet.version == 6:
        metric = IPV6_DEFAULT_METRIC
    destination = (int(subnet.network_address) << 8 | subnet.prefixlen) << 8 | subnet.version
    return (destination << 32 | metric) << 32 | table


def decode_destination(key: RouteKey) -> int:
    """Return the part of the key that identifies the subnet, whatever the metric and the table are."""
    return key >> 64


def decode_version(key: RouteKey) -> int:
    return key >> 64 & 0xFF


def decode_prefix_length(key: RouteKey) -> int:
    return key >> 72 & 0xFF


def decode_metric(key: RouteKey) -> int:
    return key >> 32 & 0xFFFFFFFF


def decode_table(key: RouteKey) -> int:
    return key & 0xFFFFFFFF


def decode_network_address(key: RouteKey) -> int:
    return key >> 80


def decode_subnet(key: RouteKey) -> IPv4Network | IPv6Network:
    network = IPv4Network if decode_version(key) == 4 else IPv6Network
    return network((decode_network_address(key), decode_prefix_length(key)))
