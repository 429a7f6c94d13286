"""Policy rules (ip-rule(8)), actions on them, and the desired source routing."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Packets from ``source`` are looked up in ``table``; rules apply in the order of their priorities."""

    version: Literal[4, 6]
    priority: int
    source: IPv4Network | IPv6Network | None
    """None matches packets from any source."""
    table: int
    protocol: int
    """FRA_PROTOCOL; 0: not reported (before Linux 4.17)."""
    suppress: int | None = None
    """Routes of this prefix length or a shorter one are ignored (FRA_SUPPRESS_PREFIXLEN)."""
    suppress_group: int | None = None
    """Routes over links of this group are ignored (FRA_SUPPRESS_IFGROUP)."""
    plain: bool = True
    """False: the rule has a condition or an action that we never use."""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """The settings of source routing: its table, and its two rules at ``priority`` and ``priority`` + 1."""

    table: int
    priority: int
    suppress: int
    """Traffic from the overlay address uses only routes of the main table with a longer prefix than this."""


@dataclass(frozen=True, slots=True)
class PrivateTable:
    """The settings of source routing for the private addresses: its table, and its rules as in ``SourceTable``."""

    table: int
    priority: int


@dataclass(frozen=True, slots=True)
class SourceRouting:
    """Traffic from the overlay address leaves through the overlay gateway."""

    config: SourceTable
    gateway: IPv4Address | IPv6Address | None
    """None: unknown, so the kernel's rules and routes are left unchanged."""


@dataclass(frozen=True, slots=True)
class AddPolicyRule:
    rule: PolicyRule


@dataclass(frozen=True, slots=True)
class DeletePolicyRule:
    rule: PolicyRule
