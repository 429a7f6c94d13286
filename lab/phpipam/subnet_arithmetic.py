"""Arithmetic of a subnet: its usable addresses, its ``calculation`` object, its usage."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from lab.phpipam.call import Unrecorded
from lab.phpipam.columns import Row

Network = IPv4Network | IPv6Network
PRIVATE = {
    "private A": IPv4Network("10.0.0.0/8"),
    "private B": IPv4Network("172.16.0.0/12"),
    "private C": IPv4Network("192.168.0.0/16"),
}


def parse_network(subnet: Row) -> Network:
    return ip_network(f"{subnet['subnet']}/{subnet['mask']}")


def decimal(text: Any) -> int | None:
    """The number of an address in any spelling; None for an invalid address."""
    text = str(text)
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return int(ip_address(text))
    except ValueError:
        return None


def dotted(number: int) -> str:
    return str(IPv4Address(number) if number < 2**32 else IPv6Address(number))


def has_edges(subnet: Row) -> bool:
    """Whether the network and broadcast addresses are reserved."""
    network = parse_network(subnet)
    return network.version == 4 and network.prefixlen < 31 and not subnet["isPool"]


def hosts(subnet: Row) -> range:
    """The usable addresses of the subnet, as numbers."""
    network, edge = parse_network(subnet), int(has_edges(subnet))
    first = int(network.network_address)
    return range(first + edge, first + network.num_addresses - edge)


def lowest_free(subnet: Row, taken: Iterable[int]) -> int | None:
    occupied, candidates = set(taken), hosts(subnet)
    number = candidates.start
    while number in occupied:
        number += 1
    return number if number < candidates.stop else None


def accepts(subnet: Row, number: int, given: str) -> bool:
    """Whether a row may be created at this address explicitly."""
    same_family = parse_network(subnet).version == (6 if ":" in given else 4) or given.isdigit()
    return same_family and number in hosts(subnet)


def calculation(subnet: Row) -> dict[str, str]:
    network, inside = parse_network(subnet), hosts(subnet)
    ends = {"Min host IP": dotted(inside.start), "Max host IP": dotted(inside.stop - 1)}
    # len() of a range is limited to sys.maxsize.
    count = str(inside.stop - inside.start)
    if isinstance(network, IPv6Network):
        nibbles = network.network_address.exploded.replace(":", "")[: network.prefixlen // 4]
        return {
            "Type": "IPv6",
            "Host address": "/",
            "Host address (uncompressed)": "/",
            "Subnet prefix": str(network),
            "Prefix length": str(network.prefixlen),
            "Subnet Reverse DNS": ".".join(reversed(nibbles)) + ".ip6.arpa",
            **ends,
            "Number of hosts": count,
            "Address type": "NET_IPV6",
        }
    # Only private classes were recorded; the key is omitted for other subnets.
    private = [("Subnet Class", name) for name, range_ in PRIVATE.items() if network.subnet_of(range_)]
    return {
        "Type": "IPv4",
        "IP address": "/",
        "Network": str(network.network_address),
        "Broadcast": str(network.broadcast_address),
        "Subnet bitmask": str(network.prefixlen),
        "Subnet netmask": str(network.netmask),
        "Subnet wildcard": str(network.hostmask),
        **ends,
        "Number of hosts": count,
        **dict(private),
    }


def percent(part: int, whole: int) -> int | float:
    value = round(part * 100 / whole, 2)
    return int(value) if value.is_integer() else value


def usage(subnet: Row, rows: Sequence[Row], slaves: Sequence[Row], tags: Mapping[int, str]) -> dict[str, Any]:
    """``rows`` are those of the subnet, or of its slaves if it has any.

    The types are mixed, as recorded: results of PHP's arbitrary precision arithmetic are text.
    """
    if slaves:
        subnet = subnet | {"isPool": 1}
    maximum = hosts(subnet).stop - hosts(subnet).start
    full = bool(subnet["isFull"])
    if slaves and (full or len(slaves) > 1 or slaves[0]["isFull"]):
        raise Unrecorded("usage of a parent that has several children or is full")
    counts: dict[str, int] = {}
    for row in [] if full else rows:
        counts[tags[row["state"] or 2]] = counts.get(tags[row["state"] or 2], 0) + 1
    result: dict[str, Any] = {"Used": str(maximum) if full else 0, "Reserved": 0}
    for tag in sorted(counts):
        result[tag] = counts[tag]
        result[f"{tag}_percent"] = percent(counts[tag], maximum)
    used = maximum if full else sum(counts.values())
    edges = sum(2 for slave in slaves if has_edges(slave))
    if edges:
        result["Reserved"] = str(int(result["Reserved"]) + edges)
    used += edges
    result["used"] = str(used) if used else 0
    result["Used_percent"] = percent(int(result["Used"]), maximum)
    result["Reserved_percent"] = percent(int(result["Reserved"]), maximum)
    return result | {
        "freehosts": str(maximum - used),
        "freehosts_percent": percent(maximum - used, maximum),
        "maxhosts": str(maximum),
    }
