"""Wakes somebody when the kernel's links, addresses, our routes or our rules change.

Nothing of a message is kept: whoever is woken looks at the kernel itself. So a lost message costs nothing but the
knowledge that one was lost, which is a reason to wake as well.
"""

import struct
from collections.abc import Callable
from typing import Final

from overlay_net.adapters.netlink.notifications import Notifications
from overlay_net.adapters.netlink.rule_messages import RTM_DELRULE, RTM_NEWRULE, rule_of

# linux/rtnetlink.h: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE; RTNLGRP_IPV4_RULE (8) and
# _IPV6_RULE (19); RTNLGRP_IPV4_NETCONF (24) tells of rp_filter, the one of our sysctls that is told of at all.
GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | 1 << (8 - 1) | 1 << (19 - 1) | 1 << (24 - 1)
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
NLM_F_REPLACE = 0x100
RECEIVE_BUFFER = 8 * 2**20
_HEADER = struct.Struct("=IHHII")
_PROTOCOL_OFFSET = 5
"""Of a struct rtmsg."""


class Monitor:
    """``wake`` is called on the event loop, at most once for each batch of messages that is read."""

    def __init__(self, protocol: int, wake: Callable[[], None]) -> None:
        self._protocol = protocol
        self._wake = wake
        self._multicast = Notifications(GROUPS, RECEIVE_BUFFER, self._heard, wake)

    async def run(self) -> None:
        """Listen until cancelled; a broken socket is replaced, and counts as a change."""
        await self._multicast.run()

    def ignore(self, port: int) -> None:
        """Not to be woken by what the netlink socket of this port asks for, from now on; 0 is none.

        Whoever changes something looks at the kernel afterwards, and need not be told to by each of its own changes.
        """
        self._multicast.ignore(port)

    def _heard(self, data: bytes) -> bool:
        concerned = self.concerns(data)
        if concerned:
            self._wake()
        return concerned

    def concerns(self, data: bytes) -> bool:
        """Whether one of the messages in ``data`` may concern us.

        Links and addresses always do. Of routes those of our protocol, and those that replaced one: it may have been
        ours. Of rules those of our protocol: nobody can replace one. Other daemons' come by the hundred thousand.
        """
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, _, __ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size:
                return True
            if self._is_ours(kind, flags, data[offset + _HEADER.size : offset + length]):
                return True
            offset += (length + 3) & ~3
        return False

    def _is_ours(self, kind: int, flags: int, body: bytes) -> bool:
        if kind in (RTM_NEWRULE, RTM_DELRULE):
            rule = rule_of(body)
            return rule is not None and rule.protocol == self._protocol
        if kind not in (RTM_NEWROUTE, RTM_DELROUTE) or flags & NLM_F_REPLACE:
            return True
        return len(body) > _PROTOCOL_OFFSET and body[_PROTOCOL_OFFSET] == self._protocol
