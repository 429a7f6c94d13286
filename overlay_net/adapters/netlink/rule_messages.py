"""Policy rules: struct fib_rule_hdr and its attributes (linux/fib_rules.h), for model.policy_rule.PolicyRule.

A rule with conditions or actions that PolicyRule cannot express is not ``plain``, so it never equals one of ours.
"""

import socket
import struct
from ipaddress import IPv4Network, IPv6Network

from overlay_net.adapters.netlink.bulk.codec import attribute, attribute_u32, attributes, parse_u32
from overlay_net.model.policy_rule import PolicyRule

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34

FIB_RULE_HDR = struct.Struct("=BBBBBxxBI")
"""family, destination prefix length, source prefix length, TOS, table, action, flags."""

FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL = 2, 6, 13, 14, 15, 21
KNOWN = {FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL}
FR_ACT_TO_TBL = 1
FIB_RULE_INVERT = 2
NOTHING_SUPPRESSED = 0xFFFFFFFF
RT_TABLE_COMPAT = 252


def dump_rules() -> bytes:
    """The body of RTM_GETRULE for the rules of all families; strict checking requires all zeros."""
    return FIB_RULE_HDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0)


def parse_rule(body: bytes) -> PolicyRule | None:
    """Parse a rule; None for a family other than IPv4 and IPv6, such as multicast routing."""
    family, destination, source_length, tos, table, action, flags = FIB_RULE_HDR.unpack_from(body)
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
        source=network((found[FRA_SRC], source_length)) if FRA_SRC in found else None,
        table=parse_u32(found, FRA_TABLE, table),
        protocol=found.get(FRA_PROTOCOL, b"\0")[0],
        suppress=None if suppress == NOTHING_SUPPRESSED else suppress,
        suppress_group=None if suppress_group == NOTHING_SUPPRESSED else suppress_group,
        plain=known and found.keys() <= KNOWN,
    )


def encode_rule(rule: PolicyRule) -> bytes:
    """The body of RTM_NEWRULE and RTM_DELRULE; the latter deletes the first rule that matches it (rule_find)."""
    family = socket.AF_INET if rule.version == 4 else socket.AF_INET6
    length = rule.source.prefixlen if rule.source is not None else 0
    table = rule.table if rule.table < 256 else RT_TABLE_COMPAT
    parts = [FIB_RULE_HDR.pack(family, 0, length, 0, table, FR_ACT_TO_TBL if rule.plain else 0, 0)]
    if rule.source is not None:
        parts.append(attribute(FRA_SRC, rule.source.network_address.packed))
    parts.append(attribute_u32(FRA_PRIORITY, rule.priority))
    parts.append(attribute_u32(FRA_TABLE, rule.table))
    if rule.suppress is not None:
        parts.append(attribute_u32(FRA_SUPPRESS_PREFIXLEN, rule.suppress))
    if rule.suppress_group is not None:
        parts.append(attribute_u32(FRA_SUPPRESS_IFGROUP, rule.suppress_group))
    parts.append(attribute(FRA_PROTOCOL, bytes([rule.protocol])))
    return b"".join(parts)
