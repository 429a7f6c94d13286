"""Policy rules: struct fib_rule_hdr and its attributes (linux/fib_rules.h) <-> model.rule.Rule.

What a Rule has no words for makes it one that is not ``plain``, which is equal to none of ours.
"""

import socket
import struct
from ipaddress import IPv4Network, IPv6Network

from overlay_net.adapters.netlink.codec import U32, attribute, attributes
from overlay_net.model.policy_rule import PolicyRule

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34

FIB_RULE_HDR = struct.Struct("=BBBBBxxBI")
"""family, destination prefix length, source prefix length, TOS, table, action, flags."""

FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL = 2, 6, 14, 15, 21
KNOWN = {FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL}
FR_ACT_TO_TBL = 1
FIB_RULE_INVERT = 2
NOTHING_SUPPRESSED = 0xFFFFFFFF
RT_TABLE_COMPAT = 252


def dump_rules() -> bytes:
    """The body of RTM_GETRULE for the rules of all families; strict checking wants it to be zero."""
    return FIB_RULE_HDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0)


def rule_of(body: bytes) -> PolicyRule | None:
    """None for a rule of another family than IPv4 and IPv6 (of multicast routing, say)."""
    family, destination, source_length, tos, table, action, flags = FIB_RULE_HDR.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = dict(attributes(body, FIB_RULE_HDR.size))
    network = IPv4Network if family == socket.AF_INET else IPv6Network
    suppress = U32.unpack(found[FRA_SUPPRESS_PREFIXLEN])[0] if FRA_SUPPRESS_PREFIXLEN in found else NOTHING_SUPPRESSED
    known = action == FR_ACT_TO_TBL and not (destination or tos or flags & FIB_RULE_INVERT)
    return PolicyRule(
        version=4 if family == socket.AF_INET else 6,
        priority=U32.unpack(found[FRA_PRIORITY])[0] if FRA_PRIORITY in found else 0,
        source=network((found[FRA_SRC], source_length)) if FRA_SRC in found else None,
        table=U32.unpack(found[FRA_TABLE])[0] if FRA_TABLE in found else table,
        protocol=found.get(FRA_PROTOCOL, b"\0")[0],
        suppress=None if suppress == NOTHING_SUPPRESSED else suppress,
        plain=known and found.keys() <= KNOWN,
    )


def rule(desired: PolicyRule) -> bytes:
    """The body of RTM_NEWRULE, and of RTM_DELRULE: of the rules that it describes the first one goes (rule_find)."""
    family = socket.AF_INET if desired.version == 4 else socket.AF_INET6
    length = desired.source.prefixlen if desired.source is not None else 0
    table = desired.table if desired.table < 256 else RT_TABLE_COMPAT
    parts = [FIB_RULE_HDR.pack(family, 0, length, 0, table, FR_ACT_TO_TBL if desired.plain else 0, 0)]
    if desired.source is not None:
        parts.append(attribute(FRA_SRC, desired.source.network_address.packed))
    parts.append(attribute(FRA_PRIORITY, U32.pack(desired.priority)))
    parts.append(attribute(FRA_TABLE, U32.pack(desired.table)))
    if desired.suppress is not None:
        parts.append(attribute(FRA_SUPPRESS_PREFIXLEN, U32.pack(desired.suppress)))
    parts.append(attribute(FRA_PROTOCOL, bytes([desired.protocol])))
    return b"".join(parts)
