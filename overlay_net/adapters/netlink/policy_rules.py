"""Reads policy rules (linux/fib_rules.h) as model.policy_rule.PolicyRule, and describes them to pyroute2.

A rule with conditions or actions that PolicyRule cannot express is not ``plain``, so it never equals one of ours.
"""

import errno
import socket
from ipaddress import IPv4Network, IPv6Network

from overlay_net.adapters.netlink.bulk.codec import attributes, fixed_part, parse_u32
from overlay_net.adapters.netlink.iproute import IpRoute
from overlay_net.adapters.netlink.parsed_dump import ParsedDump
from overlay_net.adapters.netlink.pyroute2_parts import fibmsg, rtnl
from overlay_net.model.errors import KernelError
from overlay_net.model.policy_rule import PolicyRule

FIB_RULE_HDR = fixed_part(fibmsg)

FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL = 2, 6, 13, 14, 15, 21
KNOWN = {FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL}
FR_ACT_TO_TBL = 1
FIB_RULE_INVERT = 2
NOTHING_SUPPRESSED = 0xFFFFFFFF

NO_POLICY_ROUTING = frozenset({errno.EOPNOTSUPP, errno.EAFNOSUPPORT})
"""Errors of a kernel that was built without policy routing."""


class PolicyRules:
    """Reads the policy rules of all families repeatedly."""

    def __init__(self) -> None:
        self._rules = ParsedDump(rtnl.RTM_NEWRULE, parse_rule, tuple[PolicyRule, ...])

    def read(self, route: IpRoute) -> tuple[PolicyRule, ...]:
        """Return the rules; none on a kernel without policy routing. Raises KernelError and OSError."""
        try:
            return self._rules.read(route, fibmsg, rtnl.RTM_GETRULE)
        except KernelError as error:
            if error.code in NO_POLICY_ROUTING:
                return ()
            raise


def parse_rule(body: bytes) -> PolicyRule | None:
    """Parse a rule; None for a family other than IPv4 and IPv6, such as multicast routing."""
    family, destination, source_length, tos, table, _, _, action, flags = FIB_RULE_HDR.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = dict(attributes(body, FIB_RULE_HDR.size))
    network = IPv4Network if family == socket.AF_INET else IPv6Network
    suppress = parse_u32(found, FRA_SUPPRESS_PREFIXLEN, NOTHING_SUPPRESSED)
    suppress_group = parse_u32(found, FRA_SUPPRESS_IFGROUP, NOTHING_SUPPRESSED)
    known = action == FR_ACT_TO_TBL and not (destination or tos or flags & FIB_RULE_INVERT)
    return PolicyRule(
        version=4 if family == socket.AF_INET else 6,
        priority=parse_u32(found, FRA_PRIORITY, 0),
        # The kernel stores the bits behind the prefix as well, of which it compares none (fib4_rule_configure).
        source=network((found[FRA_SRC], source_length), strict=False) if FRA_SRC in found else None,
        table=parse_u32(found, FRA_TABLE, table),
        protocol=found.get(FRA_PROTOCOL, b"\0")[0],
        suppress=None if suppress == NOTHING_SUPPRESSED else suppress,
        suppress_group=None if suppress_group == NOTHING_SUPPRESSED else suppress_group,
        plain=known and found.keys() <= KNOWN,
    )


def rule_attributes(rule: PolicyRule) -> dict[str, object]:
    """Return the rule as arguments of AsyncIPRoute.rule; "del" deletes the first rule that matches it (rule_find)."""
    found: dict[str, object] = {
        "family": socket.AF_INET if rule.version == 4 else socket.AF_INET6,
        "priority": rule.priority,
        "table": rule.table,
        "action": FR_ACT_TO_TBL if rule.plain else 0,
        "protocol": rule.protocol,
        # None leaves these out.
        "suppress_prefixlen": rule.suppress,
        "suppress_ifgroup": rule.suppress_group,
    }
    if rule.source is not None:
        found |= {"src": str(rule.source.network_address), "src_len": rule.source.prefixlen}
    return found
