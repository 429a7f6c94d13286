"""Decides which notifications concern us, and what they may have changed.

Any change, also of foreign routes and rules, may change which routes the kernel uses.
"""

from collections.abc import Iterator, Set
from enum import IntEnum
from typing import Final

from overlay_net.adapters.netlink.bulk.codec import HEADER, U32, align, messages
from overlay_net.adapters.netlink.bulk.route_decoder import RouteDecoder, parse_destination
from overlay_net.adapters.netlink.bulk.route_messages import RT_TABLE_LOCAL, RTMSG_PROTOCOL, RTMSG_TABLE, short_table
from overlay_net.adapters.netlink.pyroute2_parts import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkDecodeError,
    fibmsg,
    rtnl,
)
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.kernel_changes import UNKNOWN, KernelChanges
from overlay_net.model.route import MAIN_TABLE, RTPROT_KERNEL

RTM_NEWROUTE: Final = rtnl.RTM_NEWROUTE
RTM_DELROUTE: Final = rtnl.RTM_DELROUTE
RTM_NEWNEXTHOP, RTM_DELNEXTHOP = 104, 105
"""linux/rtnetlink.h; pyroute2 does not name them."""
LINK_INDEX: Final = 4
"""Offset of the index of the link in struct ifinfomsg and struct ifaddrmsg."""


class Concern(IntEnum):
    """Whether a change concerns us."""

    NONE = 0
    NEEDED_ROUTE = 1
    """A route of another process that is no reason for a plan, but the next one must know it and search for it."""
    DERIVED_ROUTE = 2
    """A route that the kernel derives from an address: the next plan must know it."""
    FOREIGN_ROUTE = 3
    """A route of another process, which may change often."""
    NEW_FOREIGN_ROUTE = 4
    """The same, if the next observation does not read it unless it searches for it."""
    OURS = 5
    """A route, policy rule or sysctl."""
    ADDRESS = 6
    LINK = 7
    UNKNOWN = 8
    """Anything."""


CHANGES: Final = {
    Concern.NEEDED_ROUTE: KernelChanges(awaited_routes=True),
    Concern.DERIVED_ROUTE: KernelChanges(derived_routes=True),
    Concern.FOREIGN_ROUTE: KernelChanges(is_reason=True),
    Concern.NEW_FOREIGN_ROUTE: KernelChanges(awaited_routes=True, is_reason=True),
    Concern.OURS: KernelChanges(is_reason=True),
    Concern.ADDRESS: KernelChanges(derived_routes=True, is_reason=True),
    # The kernel deletes the routes of a link that goes down without a notification of each.
    Concern.LINK: KernelChanges(links=True, derived_routes=True, is_reason=True),
    Concern.UNKNOWN: UNKNOWN,
}
"""What may have changed, besides the addresses of the links that are concerned."""


INTERFACES: Final = {
    rtnl.RTM_NEWLINK: Concern.LINK,
    rtnl.RTM_DELLINK: Concern.LINK,
    rtnl.RTM_NEWADDR: Concern.ADDRESS,
    rtnl.RTM_DELADDR: Concern.ADDRESS,
}


class Concerns:
    """``protocol`` is that of our routes and rules."""

    def __init__(self, protocol: int) -> None:
        self._protocol = protocol
        self._awaited: AwaitedRoutes | None = None
        self._needed_tables: Set[int] = frozenset()
        """The values of rtm_table for the tables of which a plan needs all routes."""
        self._waits = False

    def follow(self, awaited: AwaitedRoutes, *, waits: bool) -> bool:
        """Set the routes of other processes that concern us; ``waits``: one of them was in the place of ours.

        Returns whether they are others than before.
        """
        self._waits = waits
        if awaited is self._awaited:
            return False
        self._awaited, self._needed_tables = awaited, frozenset(map(short_table, awaited.tables))
        return True

    def find(self, data: bytes) -> Iterator[Concern]:
        """Yield what the messages in ``data`` are to us; one that cannot be parsed is UNKNOWN.

        Links and addresses are always relevant. Rules are relevant if they have our protocol, as rules cannot be
        replaced. Routes are relevant if they have our protocol or are among the awaited ones; of those that the kernel
        derives from addresses, the deletion is relevant, because the kernel does not restore them. The rest is ignored,
        because other daemons change hundreds of thousands of routes.
        """
        parsed = 0
        for kind, flags, _, start, end in messages(data):
            concern = self._concern(kind, flags, data[start - HEADER.size : end])
            yield concern
            if kind in (RTM_NEWROUTE, RTM_DELROUTE) and self._may_change_derived(concern, flags, data[start:end]):
                yield Concern.DERIVED_ROUTE
            if kind == RTM_NEWROUTE and self._is_in_another_table(data[start:end]):
                yield Concern.NEW_FOREIGN_ROUTE
            parsed = align(end)
        if parsed < len(data):
            yield Concern.UNKNOWN

    def _concern(self, kind: int, flags: int, message: bytes) -> Concern:
        # First, as there are ten thousand a second.
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            return self._route_concern(kind, flags, message[HEADER.size :])
        if kind in (rtnl.RTM_NEWRULE, rtnl.RTM_DELRULE):
            return self._rule_concern(message)
        if kind in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
            waits = kind == RTM_DELNEXTHOP and self._waits
            return Concern.FOREIGN_ROUTE if waits else Concern.NONE
        if kind in (rtnl.RTM_NEWNETCONF, rtnl.RTM_DELNETCONF):
            return Concern.OURS
        if kind in INTERFACES and len(message) >= HEADER.size + LINK_INDEX + U32.size:
            return INTERFACES[kind]
        return Concern.UNKNOWN

    def _rule_concern(self, message: bytes) -> Concern:
        rule = fibmsg(message)
        if len(message) < HEADER.size + rule.get_size():
            return Concern.OURS
        try:
            rule.decode()
        except NetlinkDecodeError:
            return Concern.OURS
        return Concern.OURS if rule.get_attr("FRA_PROTOCOL") == self._protocol else Concern.NONE

    def _route_concern(self, kind: int, flags: int, body: bytes) -> Concern:
        protocol = body[RTMSG_PROTOCOL] if len(body) > RTMSG_PROTOCOL else None
        if protocol == self._protocol or (protocol == RTPROT_KERNEL and kind == RTM_DELROUTE):
            return Concern.OURS
        awaited = _has_same_key(kind, flags) if self._awaited is None else self._is_awaited(body, self._awaited)
        if not awaited:
            is_needed = kind == RTM_NEWROUTE and len(body) > RTMSG_TABLE and body[RTMSG_TABLE] in self._needed_tables
            return Concern.NEEDED_ROUTE if is_needed else Concern.NONE
        # Those of the kernel in the table main are always read; one that was deleted is missing wherever it was read.
        is_read = protocol == RTPROT_KERNEL or kind == RTM_DELROUTE
        return Concern.FOREIGN_ROUTE if is_read else Concern.NEW_FOREIGN_ROUTE

    def _may_change_derived(self, concern: Concern, flags: int, body: bytes) -> bool:
        """Return whether a route that the kernel derives may have changed.

        The kernel notifies of the route that replaces it, and not of its end.
        """
        if len(body) > RTMSG_PROTOCOL and body[RTMSG_PROTOCOL] == RTPROT_KERNEL:
            return True
        if concern == Concern.NONE or not flags & NLM_F_REPLACE:
            return False
        return self._awaited is None or self._awaited.may_need_derived(parse_destination(body))

    def _is_in_another_table(self, body: bytes) -> bool:
        """Return whether a route of ours or of the kernel is in a table where it is not read without a search."""
        if len(body) <= RTMSG_PROTOCOL or body[RTMSG_TABLE] in (MAIN_TABLE, RT_TABLE_LOCAL) or self._awaited is None:
            return False
        if body[RTMSG_PROTOCOL] not in (self._protocol, RTPROT_KERNEL):
            return False
        route = RouteDecoder().decode(body)
        if route is None or route.protocol == RTPROT_KERNEL:
            return route is not None and self._awaited.needs(route)
        return route.table not in self._awaited.own_tables

    def _is_awaited(self, body: bytes, awaited: AwaitedRoutes) -> bool:
        # Nearly all of ten thousand routes a second end here.
        if not awaited.may_concern(parse_destination(body)):
            return False
        route = RouteDecoder().decode(body)
        return route is not None and awaited.concerns(route)


def _has_same_key(kind: int, flags: int) -> bool:
    """Return whether there was a route with the same key, which may be ours (fib_table_insert, fib6_add_rt2node)."""
    added = kind == RTM_NEWROUTE and bool(flags & NLM_F_CREATE) and not flags & NLM_F_EXCL
    return added or bool(flags & NLM_F_REPLACE)


def find_links(datagram: bytes) -> Iterator[int]:
    """Yield the indexes of the links of the messages about links and addresses."""
    for kind, _, _, start, end in messages(datagram):
        if kind in INTERFACES and end - start >= LINK_INDEX + U32.size:
            yield U32.unpack_from(datagram, start + LINK_INDEX)[0]
