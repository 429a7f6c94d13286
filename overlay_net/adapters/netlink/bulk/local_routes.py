"""Finds out whether the kernel accepts packets to an address: it has a local route, in any table."""

import socket

from overlay_net.adapters.netlink.bulk.codec import messages
from overlay_net.adapters.netlink.bulk.route_decoder import parse_destination
from overlay_net.adapters.netlink.bulk.route_lookups import encode_lookup
from overlay_net.adapters.netlink.bulk.route_messages import (
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTMSG_PREFIX,
    RTMSG_TYPE,
    RTN_LOCAL,
    dump_routes,
)
from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket
from overlay_net.model.net import IpAddress
from overlay_net.model.route_lookup import RouteLookup


def has_local_route(kernel: NetlinkSocket, address: IpAddress) -> bool:
    """Raises KernelError and OSError."""
    answer = kernel.query([(RTM_GETROUTE, 0, encode_lookup(RouteLookup(address)))]).get(0)
    if answer is not None and answer[RTMSG_TYPE] == RTN_LOCAL and answer[RTMSG_PREFIX] == address.max_prefixlen:
        return True
    # A policy rule may precede the table "local", and a VRF has another table.
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    destination = (int(address) << 8 | address.max_prefixlen) << 8 | address.version

    def matching(datagram: bytes) -> list[bytes]:
        return [
            datagram[start:end]
            for kind, _, _, start, end in messages(datagram)
            if kind == RTM_NEWROUTE
            and datagram[start + RTMSG_TYPE] == RTN_LOCAL
            and parse_destination(datagram[start:end]) == destination
        ]

    return bool(kernel.dump_parsed(RTM_GETROUTE, dump_routes(family, kind=RTN_LOCAL), matching))
