"""Selects the messages of a dump of routes that have to be decoded, before anything else is done with the others."""

import socket
from collections.abc import Iterable, Set
from typing import Final

from overlay_net.adapters.netlink.bulk.codec import messages
from overlay_net.adapters.netlink.bulk.route_decoder import parse_destination
from overlay_net.adapters.netlink.bulk.route_messages import (
    RT_TABLE_COMPAT,
    RTM_NEWROUTE,
    RTMSG_FAMILY,
    RTMSG_PREFIX,
    RTMSG_PROTOCOL,
    RTMSG_TABLE,
    RTMSG_TYPE,
    RTN_LOCAL,
)
from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.route import MAIN_TABLE, RTPROT_RA

_BITS: Final = {int(socket.AF_INET): 32, int(socket.AF_INET6): 128}
_END_OF_ADDRESS: Final = {int(socket.AF_INET): 28, int(socket.AF_INET6): 40}


class RouteFilter:
    """The messages of one family with our routes, with local routes, and with those that ``awaited`` may need.

    None: with all routes. Nearly all of a hundred thousand messages end here, or are ours.
    """

    def __init__(self, family: int, protocol: int, awaited: AwaitedRoutes | None) -> None:
        self._family = family
        self._protocol = protocol
        self._awaited = awaited
        self._tables: Set[int] = {_short_table(table) for table in awaited.tables} if awaited is not None else set()

    def needed_bodies(self, datagram: bytes) -> list[bytes]:
        family, protocol = self._family, self._protocol
        return [
            datagram[start:end]
            for kind, _, _, start, end in messages(datagram)
            # A kernel without IPv6 answers the request for its routes with those of all other families.
            if kind == RTM_NEWROUTE
            and datagram[start] == family
            and (datagram[start + RTMSG_PROTOCOL] == protocol or self._may_need(datagram, start, end))
        ]

    def other_bodies(self, datagram: bytes) -> list[bytes]:
        """The same without our routes."""
        family, protocol = self._family, self._protocol
        return [
            datagram[start:end]
            for kind, _, _, start, end in messages(datagram)
            if kind == RTM_NEWROUTE
            and datagram[start] == family
            and datagram[start + RTMSG_PROTOCOL] != protocol
            and self._may_need(datagram, start, end)
        ]

    def _may_need(self, datagram: bytes, start: int, end: int) -> bool:
        awaited = self._awaited
        return (
            awaited is None
            or datagram[start + RTMSG_PROTOCOL] == RTPROT_RA
            or datagram[start + RTMSG_TABLE] in self._tables
            or datagram[start + RTMSG_TYPE] == RTN_LOCAL
            or awaited.may_concern(parse_destination(datagram[start:end]))
        )


def bodies_within(datagram: bytes, family: int, spans: AddressSpans) -> list[bytes]:
    """Return the messages with routes of the table main whose subnet starts inside ``spans``."""
    return [
        datagram[start:end]
        for kind, _, _, start, end in messages(datagram)
        if kind == RTM_NEWROUTE
        and datagram[start] == family
        and datagram[start + RTMSG_TABLE] == MAIN_TABLE
        and spans.has_start(parse_destination(datagram[start:end]))
    ]


def local_bodies(bodies: Iterable[bytes]) -> list[bytes]:
    """Return the messages with routes because of which the kernel accepts packets to a single address."""
    return [
        body for body in bodies if body[RTMSG_TYPE] == RTN_LOCAL and body[RTMSG_PREFIX] == _BITS[body[RTMSG_FAMILY]]
    ]


def local_addresses(bodies: Iterable[bytes]) -> frozenset[bytes]:
    """The kernel writes the subnet right after the table (fib_dump_info, rt6_fill_node)."""
    return frozenset(body[24 : _END_OF_ADDRESS[body[RTMSG_FAMILY]]] for body in local_bodies(bodies))


def _short_table(table: int) -> int:
    """Return the value of rtm_table, which has no room for a larger number."""
    return table if table < 256 else RT_TABLE_COMPAT
