"""Looks up which routes the kernel uses (RTM_GETROUTE), many in one exchange."""

import socket
from collections.abc import Sequence

from overlay_net.adapters.netlink.bulk.codec import attribute
from overlay_net.adapters.netlink.bulk.route_decoder import RouteDecoder
from overlay_net.adapters.netlink.bulk.route_messages import (
    RTA_DST,
    RTA_SRC,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    RTM_GETROUTE,
    RTMSG,
)
from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket
from overlay_net.model.route import Route
from overlay_net.model.route_lookup import RouteLookup

_FAMILIES = {
    # The answer is the entry of the routing table: without the flag it is the resolved path. An IPv6 answer always has
    # the table, and strict checking refuses the flag for it.
    4: (socket.AF_INET, 32, RTM_F_FIB_MATCH | RTM_F_LOOKUP_TABLE),
    6: (socket.AF_INET6, 128, RTM_F_FIB_MATCH),
}
"""Family, length of an address in bits, and flags, by IP version."""


def look_up_routes(kernel: NetlinkSocket, lookups: Sequence[RouteLookup]) -> list[Route | None]:
    """Return the route that the kernel uses for each lookup; None: not known.

    The kernel answers a lookup that ends at a route or rule that rejects traffic, or at none, with an error; a route of
    the table "local", and the answer of a kernel before 4.13, are not decoded. Raises KernelError and OSError.
    """
    answers = kernel.query((RTM_GETROUTE, 0, encode_lookup(each)) for each in lookups)
    decode = RouteDecoder().decode
    return [decode(answers[position]) if position in answers else None for position in range(len(lookups))]


def encode_lookup(lookup: RouteLookup) -> bytes:
    destination, source = lookup.destination, lookup.source
    family, bits, flags = _FAMILIES[destination.version]
    # Strict checking requires that each address has its full prefix length (inet_rtm_valid_getroute_req).
    head = RTMSG.pack(family, bits, bits if source is not None else 0, 0, 0, 0, 0, 0, flags)
    from_source = attribute(RTA_SRC, source.packed) if source is not None else b""
    return head + attribute(RTA_DST, destination.packed) + from_source
