"""Matches and targets of iptables in rules of nftables: structs of the kernel (linux/netfilter/xt_*.h, nf_nat.h)."""

import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, Protocol

from overlay_net.adapters.netlink.nftables.matches import Match
from overlay_net.model.api import JsonObject

LOCAL: Final = 1 << 2
"""XT_ADDRTYPE_LOCAL."""
INVERT_SOURCE: Final = 1 << 0
INVERT_DESTINATION: Final = 1 << 1
LIMIT_INTERFACES: Final = 1 << 2 | 1 << 3
"""XT_ADDRTYPE_LIMIT_IFACE_*: the type depends on the interface."""
SET_INVERTED: Final = 1 << 0
"""IPSET_INV_MATCH."""
SET_SOURCE: Final = 1 << 1
"""IPSET_DIM_ONE_SRC."""
MAP_IPS: Final = 1
"""NF_NAT_RANGE_MAP_IPS."""


class IpSets(Protocol):
    def read_ipset(self, index: int) -> tuple[str, list[str] | None]: ...


def read_match(attributes: Mapping[str, Any], sets: IpSets) -> Sequence[Match]:
    """Return the conditions of a match; one that is not known is ``unread``, and a comment is none."""
    name, revision = str(attributes.get("NFTA_MATCH_NAME")), attributes.get("NFTA_MATCH_REV")
    data = _bytes(attributes.get("NFTA_MATCH_INFO"))
    match name:
        case "comment":
            return ()
        case "mark" if revision == 1:
            return [_read_mark(data)]
        case "addrtype" if revision == 1:
            return _read_address_types(data)
        case "set":
            return [_read_set(data, sets)]
    return [{"field": "unread", "text": name}]


def _read_mark(data: bytes) -> Match:
    value, mask, inverted = _integers(data, 4, 4, 1)
    return {"field": "mark", "value": value, "mask": mask} | ({"inverted": True} if inverted else {})


def _read_address_types(data: bytes) -> Sequence[Match]:
    source, destination, flags = _integers(data, 2, 2, 4)
    if flags & LIMIT_INTERFACES or {source, destination} - {0, LOCAL}:
        return [{"field": "unread", "text": "addrtype"}]
    found: list[Match] = []
    for field, types, inverted in (
        ("sourceType", source, INVERT_SOURCE),
        ("destinationType", destination, INVERT_DESTINATION),
    ):
        if types:
            found.append({"field": field, "local": True} | ({"inverted": True} if flags & inverted else {}))
    return found


def _read_set(data: bytes, sets: IpSets) -> Match:
    """A set with several dimensions, such as of address and port, is unread."""
    index, dimensions, flags = _integers(data, 2, 1, 1)
    name, networks = sets.read_ipset(index)
    if networks is None or dimensions != 1:
        return {"field": "unread", "text": f"@{name}"}
    field = "source" if flags & SET_SOURCE else "destination"
    found: Match = {"field": field, "networks": networks, "set": name}
    return found | ({"inverted": True} if flags & SET_INVERTED else {})


def read_target(attributes: Mapping[str, Any], family: int) -> JsonObject | None:
    """Return the action of a target that translates sources; None for others, after which the next rule follows."""
    name = str(attributes.get("NFTA_TARGET_NAME"))
    if name == "MASQUERADE":
        return {"action": "masquerade"}
    if name != "SNAT":
        return None
    address = _read_target_address(
        _bytes(attributes.get("NFTA_TARGET_INFO")), family, attributes.get("NFTA_TARGET_REV")
    )
    return {"action": "snat"} | ({"target": address} if address else {})


def _read_target_address(data: bytes, family: int, revision: Any) -> str:
    # The first revision for IPv4 has a count of ranges before them, and addresses of four bytes.
    size, start = (4, 4) if family == socket.AF_INET and revision == 0 else (16, 0)
    (flags,) = _integers(data[start:], 4)
    if not flags & MAP_IPS:
        return ""
    address = data[start + 4 : start + 4 + (4 if family == socket.AF_INET else size)]
    return str(ip_address(address))


def _integers(data: bytes, *sizes: int) -> Iterator[int]:
    """Yield the unsigned integers of these sizes, in bytes, with which a struct of the kernel begins."""
    start = 0
    for size in sizes:
        yield int.from_bytes(data[start : start + size], sys.byteorder)
        start += size


def _bytes(value: Any) -> bytes:
    """Decode what pyroute2 shows in hex, such as ``0a:00:00:09``."""
    return value if isinstance(value, bytes) else bytes.fromhex(str(value or "").replace(":", ""))
