"""Subnets to which no route can lead: IANA's special-purpose address registries (RFC 6890), and multicast.

Of the registries, these are the blocks whose attribute *Forwardable* is false. Private and shared address space, for
example, is forwardable. A forwardable block inside one that is not remains available.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Final

from overlay_net.domain.routes.protected_subnets import ProtectedSubnet
from overlay_net.model.net import IpNetwork

LINK_LOCAL: Final = (
    ("169.254.0.0/16", "link-local, RFC 3927"),
    ("fe80::/10", "link-local, RFC 4291"),
)

NOT_FORWARDABLE: Final = (
    ("0.0.0.0/8", "this network, RFC 791"),
    ("127.0.0.0/8", "loopback, RFC 1122"),
    ("192.0.0.0/24", "IETF protocol assignments, RFC 6890"),
    ("192.0.2.0/24", "documentation, RFC 5737"),
    ("198.51.100.0/24", "documentation, RFC 5737"),
    ("203.0.113.0/24", "documentation, RFC 5737"),
    ("224.0.0.0/4", "multicast, RFC 5771"),
    ("240.0.0.0/4", "reserved, RFC 1112"),
    ("255.255.255.255/32", "limited broadcast, RFC 8190"),
    ("::/128", "unspecified address, RFC 4291"),
    ("::1/128", "loopback, RFC 4291"),
    ("::ffff:0:0/96", "IPv4-mapped addresses, RFC 4291"),
    ("100:0:0:1::/64", "dummy prefix, RFC 9780"),
    ("2001::/23", "IETF protocol assignments, RFC 2928"),
    ("2001:db8::/32", "documentation, RFC 3849"),
    ("3fff::/20", "documentation, RFC 9637"),
    ("ff00::/8", "multicast, RFC 4291"),
)

FORWARDABLE: Final = (
    "192.0.0.0/29",  # IPv4 service continuity, RFC 7335
    "192.0.0.9/32",  # Port Control Protocol anycast, RFC 7723
    "192.0.0.10/32",  # TURN anycast, RFC 8155
    "2001::/32",  # Teredo, RFC 4380
    "2001:1::1/128",  # Port Control Protocol anycast, RFC 7723
    "2001:1::2/128",  # TURN anycast, RFC 8155
    "2001:1::3/128",  # DNS-SD Service Registration Protocol anycast, RFC 9665
    "2001:2::/48",  # benchmarking, RFC 5180
    "2001:3::/32",  # AMT, RFC 7450
    "2001:4:112::/48",  # AS112, RFC 7535
    "2001:20::/28",  # ORCHIDv2, RFC 7343
    "2001:30::/28",  # drone remote ID, RFC 9374
)
"""Blocks of the registries inside one of NOT_FORWARDABLE."""


def special_purpose(*, allow_link_local: bool) -> Iterator[ProtectedSubnet]:
    """Yield the protected blocks, in parts where a forwardable block is inside."""
    forwardable = [ip_network(text) for text in FORWARDABLE]
    for text, name in (*NOT_FORWARDABLE, *(() if allow_link_local else LINK_LOCAL)):
        block = ip_network(text)
        inside = [each for each in forwardable if each.version == block.version and each.subnet_of(block)]  # type: ignore[arg-type]
        for part in _without(block, inside):
            yield ProtectedSubnet(part, name)


def _without(block: IpNetwork, holes: Iterable[IpNetwork]) -> list[IpNetwork]:
    parts = [block]
    for hole in holes:
        container = next(each for each in parts if hole.subnet_of(each))  # type: ignore[arg-type]
        parts.remove(container)
        parts += container.address_exclude(hole)  # type: ignore[arg-type]
    return parts
