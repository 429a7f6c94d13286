"""Policy rules of the kernel (ip-rule(8)), the changes of them, and what is wished of source routing."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Packets from ``source`` are looked up in ``table``; rules are asked in the order of their priorities."""

    version: Literal[4, 6]
    priority: int
    source: IPv4Network | IPv6Network | None
    """None: packets from anywhere."""
    table: int
    protocol: int
    """FRA_PROTOCOL; 0 where the kernel did not say (before Linux 4.17)."""
    suppress: int | None = None
    """Routes of this prefix length or a shorter one do not count (FRA_SUPPRESS_PREFIXLEN)."""
    plain: bool = True
    """False for one with conditions, or of an action, that we never make."""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """The settings of source routing: where its table is, and its two rules at ``priority`` and the next number."""

    table: int
    priority: int
    suppress: int
    """Routes of the main table count for traffic from the overlay address when their prefix is longer than this."""


@dataclass(frozen=True, slots=True)
class SourceRouting:
    """What comes from the overlay address leaves through the overlay gateway."""

    config: SourceTable
    gateway: IPv4Address | IPv6Address | None
    """None where it is not known: then what is there stays."""


@dataclass(frozen=True, slots=True)
class AddPolicyRule:
    rule: PolicyRule


@dataclass(frozen=True, slots=True)
class DeletePolicyRule:
    rule: PolicyRule
