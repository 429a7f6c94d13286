"""Wakes the agent when links, addresses, or our routes and policy rules change in the kernel.

The contents of notifications are not used, as the agent observes the kernel when woken. Lost notifications wake the
agent as well. Any change, also of foreign routes and rules, may change which routes the kernel uses.
"""

from collections.abc import Callable
from typing import Final

from overlay_net.adapters.netlink.codec import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, align, messages
from overlay_net.adapters.netlink.notifications import Notifications
from overlay_net.adapters.netlink.route_messages import RTM_DELROUTE, RTM_NEWROUTE, RTMSG_PROTOCOL
from overlay_net.adapters.netlink.rule_messages import RTM_DELRULE, RTM_NEWRULE, parse_rule
from overlay_net.model.route import RTPROT_KERNEL

# linux/rtnetlink.h: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE; RTNLGRP_IPV4_RULE (8) and
# _IPV6_RULE (19); RTNLGRP_IPV4_NETCONF (24) and _IPV6_NETCONF (25), which notify of forwarding and rp_filter, the only
# ones of our sysctls that have a notification.
GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | 1 << (8 - 1) | 1 << (19 - 1) | 1 << (24 - 1) | 1 << (25 - 1)
RECEIVE_BUFFER = 8 * 2**20


class Monitor:
    """``wake`` is called on the event loop, at most once for each datagram."""

    def __init__(self, protocol: int, wake: Callable[[], None]) -> None:
        self._protocol = protocol
        self._wake = wake
        self._routing_changed: Callable[[], None] = _ignore
        self._notifications = Notifications(GROUPS, RECEIVE_BUFFER, self._received, wake)

    async def run(self) -> None:
        """Listen until cancelled. A broken socket is replaced, which wakes the agent."""
        await self._notifications.run()

    def ignore(self, port: int) -> None:
        """Ignore changes made through the netlink socket with this port; 0 ignores none.

        The agent observes the kernel after its own changes anyway.
        """
        self._notifications.ignore(port)

    def watch_routing(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` for every datagram: it must be cheap, because other daemons change routes by the thousand.

        Notifications that are lost or discarded wake the agent, which observes the kernel.
        """
        self._routing_changed = changed

    def _received(self, data: bytes) -> bool:
        self._routing_changed()
        concerned = self.concerns(data)
        if concerned:
            self._wake()
        return concerned

    def concerns(self, data: bytes) -> bool:
        """Return whether a message in ``data`` may concern us; True if it cannot be parsed.

        Links and addresses are always relevant. Routes are relevant if they have our protocol, or if they replaced a
        route or were added beside one with the same key, which may be ours; of those that the kernel derives from
        addresses, the deletion is relevant, because the kernel does not restore them. Rules are relevant if they have
        our protocol, as rules cannot be replaced. The rest is ignored, because other daemons change hundreds of
        thousands of routes.
        """
        parsed = 0
        for kind, flags, _, start, end in messages(data):
            if self._may_be_ours(kind, flags, data[start:end]):
                return True
            parsed = align(end)
        return parsed < len(data)

    def _may_be_ours(self, kind: int, flags: int, body: bytes) -> bool:
        if kind in (RTM_NEWRULE, RTM_DELRULE):
            rule = parse_rule(body)
            return rule is not None and rule.protocol == self._protocol
        if kind not in (RTM_NEWROUTE, RTM_DELROUTE) or flags & NLM_F_REPLACE:
            return True
        if kind == RTM_NEWROUTE and flags & NLM_F_CREATE and not flags & NLM_F_EXCL:
            # There was a route with the same key (fib_table_insert, fib6_add_rt2node).
            return True
        if len(body) <= RTMSG_PROTOCOL:
            return False
        derived = kind == RTM_DELROUTE and body[RTMSG_PROTOCOL] == RTPROT_KERNEL
        return derived or body[RTMSG_PROTOCOL] == self._protocol


def _ignore() -> None:
    """Nothing watches the routing."""
