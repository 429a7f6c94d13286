"""Route messages: struct rtmsg and the numbers of its attributes (linux/rtnetlink.h).

route_encoder writes them, route_decoder reads them.
"""

import socket
import struct
from typing import Final

from overlay_net.adapters.netlink.bulk.codec import ATTRIBUTE, attribute_u32
from overlay_net.model.route import Route, RouteKind
from overlay_net.model.route_key import decode_version

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

RTMSG = struct.Struct("=BBBBBBBBI")
"""family, prefix length, source prefix length, TOS, table, protocol, scope, type, flags."""
RTMSG_PREFIX, RTMSG_TABLE, RTMSG_PROTOCOL, RTMSG_TYPE = 1, 4, 5, 7
"""Offsets in struct rtmsg."""
RTNEXTHOP = struct.Struct("=HBBi")
"""length, flags, hops (weight - 1), link."""

RT_TABLE_COMPAT, RT_TABLE_LOCAL = 252, 255
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RTN_LOCAL: Final = 2
RTM_F_CLONED, RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x200, 0x1000, 0x2000
RTNH_F_ONLINK = 0x4
RTAX_MTU, RTAX_ADVMSS = 2, 8

RTA_DST, RTA_SRC, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS = 1, 2, 3, 4, 5, 6, 7, 8
RTA_MULTIPATH, RTA_FLOW, RTA_CACHEINFO, RTA_TABLE, RTA_VIA, RTA_NEWDST, RTA_PREF = 9, 11, 12, 15, 18, 19, 20
RTA_ENCAP_TYPE, RTA_ENCAP, RTA_NH_ID = 21, 22, 30

KINDS: dict[int, RouteKind] = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
"""Kinds of routes by RTN_* number."""

ADDRESS_SIZES: Final = {4: 4, 6: 16}
"""Length of an address in bytes, by IP version."""
DST_HEADERS: Final = {
    version: ATTRIBUTE.pack(ATTRIBUTE.size + size, RTA_DST) for version, size in ADDRESS_SIZES.items()
}
"""The attribute header that precedes the bytes of a subnet, by IP version."""


def dump_routes(family: int, *, protocol: int = 0, table: int = 0, kind: int = 0) -> bytes:
    """The body of RTM_GETROUTE for the routes of a family, or for those with a protocol, table or kind (RTN_*).

    Strict checking requires all other zeros (ip_valid_fib_dump_req).
    """
    return RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, kind, 0) + (attribute_u32(RTA_TABLE, table) if table else b"")


def route_family(route: Route) -> int:
    return socket.AF_INET if decode_version(route.key) == 4 else socket.AF_INET6


def short_table(table: int) -> int:
    """Return the value of rtm_table, which has no room for a larger number."""
    return table if table < 256 else RT_TABLE_COMPAT
