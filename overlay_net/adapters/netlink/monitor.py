"""Wakes the agent when links, addresses, our routes and policy rules, or routes that ours depend on change.

Notifications only decide whether to wake the agent, which then observes the kernel. Lost notifications wake it as well.
Any change, also of foreign routes and rules, may change which routes the kernel uses.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from enum import IntEnum
from functools import partial
from itertools import chain
from typing import Final

from overlay_net.adapters.netlink.bulk.codec import HEADER, align, messages
from overlay_net.adapters.netlink.bulk.route_decoder import RouteDecoder, parse_destination
from overlay_net.adapters.netlink.bulk.route_messages import RT_TABLE_LOCAL, RTMSG_PROTOCOL, RTMSG_TABLE, short_table
from overlay_net.adapters.netlink.notification_filter import except_from
from overlay_net.adapters.netlink.notifications import Group, Notifications, open_notification_socket
from overlay_net.adapters.netlink.pyroute2_parts import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkDecodeError,
    fibmsg,
    rtnl,
)
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.route import MAIN_TABLE, RTPROT_KERNEL

GROUPS: Final = (
    Group.LINKS,
    Group.IPV4_ADDRESSES,
    Group.IPV6_ADDRESSES,
    Group.IPV4_ROUTES,
    Group.IPV6_ROUTES,
    Group.IPV4_RULES,
    Group.IPV6_RULES,
    # Forwarding and rp_filter, the only ones of our sysctls that have a notification.
    Group.IPV4_NETCONF,
    Group.IPV6_NETCONF,
    # The kernel deletes the routes of a nexthop object without a notification of each.
    Group.NEXTHOPS,
)
RTM_NEWROUTE: Final = rtnl.RTM_NEWROUTE
RTM_DELROUTE: Final = rtnl.RTM_DELROUTE
RTM_NEWNEXTHOP, RTM_DELNEXTHOP = 104, 105
"""linux/rtnetlink.h; pyroute2 does not name them."""
RECEIVE_BUFFER = 8 * 2**20


class Concern(IntEnum):
    """Whether a change concerns us."""

    NONE = 0
    NEEDED_ROUTE = 1
    """A route of another process that is no reason for a plan, but the next one must know it and search for it."""
    FOREIGN_ROUTE = 2
    """A route of another process, which may change often."""
    NEW_FOREIGN_ROUTE = 3
    """The same, if the next observation does not read it unless it searches for it."""
    OURS = 4


class Monitor:
    """``wake`` is called on the event loop, at most once for all that is pending.

    ``wake_by_foreign_route`` is called instead if there are changes of other processes' routes only.
    """

    def __init__(
        self, protocol: int, wake: Callable[[], None], wake_by_foreign_route: Callable[[], None] | None = None
    ) -> None:
        self._protocol = protocol
        self._wake = wake
        self._routing_changed: Callable[[], None] = _ignore
        self._wake_by_foreign_route = wake_by_foreign_route or wake
        self._awaited: AwaitedRoutes | None = None
        self._needed_tables: Set[int] = frozenset()
        """The values of rtm_table for the tables of which a plan needs all routes."""
        self._waits = False
        self._appeared = True
        """Whether an awaited route may have appeared since the last ``follow``."""
        connect = partial(open_notification_socket, GROUPS, RECEIVE_BUFFER)
        self._notifications = Notifications(connect, self._received, self._missed)

    async def run(self) -> None:
        """Listen until cancelled. A broken socket is replaced, which wakes the agent."""
        await self._notifications.run()

    def ignore(self, ports: Set[int]) -> None:
        """Ignore changes made through the netlink sockets with these ports, and no longer those of earlier ones.

        The agent observes the kernel after its own changes anyway.
        """
        self._notifications.accept(except_from(ports))

    def watch_routing(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` for all that is pending: it must be cheap, as other daemons change routes by the thousand.

        Notifications that are lost wake the agent, which observes the kernel.
        """
        self._routing_changed = changed

    def follow(self, awaited: AwaitedRoutes, *, waits: bool = False) -> bool:
        """Set the routes of other processes that concern us; call this before the kernel is observed.

        ``waits``: one of them was in the place of ours when the kernel was last observed. Returns whether one may have
        appeared since the last call. The kernel notifies of every route that is added or replaced, unlike of those that
        it deletes with a link, an address or a nexthop object.
        """
        self._waits = waits
        # A change that preceded an observation must not be unknown to it because its notification was not read yet.
        is_complete = self._notifications.catch_up()
        appeared = self._appeared or not is_complete
        if awaited is not self._awaited:
            self._awaited, self._needed_tables = awaited, frozenset(map(short_table, awaited.tables))
            appeared = True
        self._appeared = False
        return appeared

    def _missed(self) -> None:
        self._appeared = True
        self._wake()

    def _received(self, datagrams: Iterable[bytes]) -> None:
        self._routing_changed()
        concerns = set(chain.from_iterable(map(self._concerns, datagrams)))
        self._appeared |= not concerns.isdisjoint({Concern.NEEDED_ROUTE, Concern.NEW_FOREIGN_ROUTE})
        if Concern.OURS in concerns:
            self._wake()
        elif not concerns.isdisjoint({Concern.FOREIGN_ROUTE, Concern.NEW_FOREIGN_ROUTE}):
            self._wake_by_foreign_route()

    def concerns(self, data: bytes) -> bool:
        """Return whether a message in ``data`` may concern us; if it cannot be parsed, it does.

        Links and addresses are always relevant. Rules are relevant if they have our protocol, as rules cannot be
        replaced. Routes are relevant if they have our protocol or are among the awaited ones; of those that the kernel
        derives from addresses, the deletion is relevant, because the kernel does not restore them. The rest is ignored,
        because other daemons change hundreds of thousands of routes.
        """
        return max(self._concerns(data), default=Concern.NONE) > Concern.NEEDED_ROUTE

    def _concerns(self, data: bytes) -> Iterator[Concern]:
        parsed = 0
        for kind, flags, _, start, end in messages(data):
            yield self._concern(kind, flags, data[start - HEADER.size : end])
            if kind == RTM_NEWROUTE and self._is_in_another_table(data[start:end]):
                yield Concern.NEW_FOREIGN_ROUTE
            parsed = align(end)
        if parsed < len(data):
            yield from (Concern.NEW_FOREIGN_ROUTE, Concern.OURS)

    def _concern(self, kind: int, flags: int, message: bytes) -> Concern:
        # First, as there are ten thousand a second.
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            return self._route_concern(kind, flags, message[HEADER.size :])
        if kind in (rtnl.RTM_NEWRULE, rtnl.RTM_DELRULE):
            return self._rule_concern(message)
        if kind in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
            waits = kind == RTM_DELNEXTHOP and self._waits
            return Concern.FOREIGN_ROUTE if waits else Concern.NONE
        return Concern.OURS

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


def _ignore() -> None:
    """Nothing watches the routing."""
