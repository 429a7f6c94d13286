"""Selects the messages of a dump of routes that have to be decoded, before anything else is done with the others."""

from collections.abc import Set

from overlay_net.adapters.netlink.bulk.codec import messages
from overlay_net.adapters.netlink.bulk.route_decoder import parse_destination
from overlay_net.adapters.netlink.bulk.route_messages import (
    RT_TABLE_COMPAT,
    RTM_NEWROUTE,
    RTMSG_PROTOCOL,
    RTMSG_TABLE,
    short_table,
)
from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.route import MAIN_TABLE, RTPROT_RA


class RouteFilter:
    """The messages of one family with our routes, and with those that ``awaited`` may need.

    None: with all routes. Nearly all of a hundred thousand messages end here, or are ours.
    """

    def __init__(self, family: int, protocol: int, awaited: AwaitedRoutes | None) -> None:
        self._family = family
        self._protocol = protocol
        self._awaited = awaited
        self._tables: Set[int] = {short_table(table) for table in awaited.tables} if awaited is not None else set()
        self._own_tables = awaited.own_tables - {RT_TABLE_COMPAT} if awaited is not None else set()

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
        """The same without our routes in the tables that we use."""
        family, protocol = self._family, self._protocol
        return [
            datagram[start:end]
            for kind, _, _, start, end in messages(datagram)
            if kind == RTM_NEWROUTE
            and datagram[start] == family
            and (
                self._may_need(datagram, start, end)
                if datagram[start + RTMSG_PROTOCOL] != protocol
                else datagram[start + RTMSG_TABLE] not in self._own_tables
            )
        ]

    def _may_need(self, datagram: bytes, start: int, end: int) -> bool:
        awaited = self._awaited
        return (
            awaited is None
            or datagram[start + RTMSG_PROTOCOL] == RTPROT_RA
            or datagram[start + RTMSG_TABLE] in self._tables
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
