"""What may have changed in the kernel since it was last observed, so that a repair reads nothing else again."""

from collections.abc import Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KernelChanges:
    """Our routes, policy rules and sysctls are not here: they are always read.

    An observation without a reason, such as a resync, reads everything: it makes up for a notification that was lost or
    misunderstood.
    """

    everything: bool = False
    """Also links, addresses and routes that are not named here, except for awaited routes."""
    links: bool = False
    addresses: Set[int] = frozenset()
    """The indexes of the links whose addresses may have changed."""
    derived_routes: bool = False
    """Routes that the kernel derives from addresses (RTPROT_KERNEL)."""
    awaited_routes: bool = False
    """A route of another process that a plan needs may have appeared."""
    is_reason: bool = False
    """Whether a notification was the reason for an observation."""

    def __or__(self, other: "KernelChanges") -> "KernelChanges":
        return KernelChanges(
            self.everything or other.everything,
            self.links or other.links,
            self.addresses | other.addresses,
            self.derived_routes or other.derived_routes,
            self.awaited_routes or other.awaited_routes,
            self.is_reason or other.is_reason,
        )

    @property
    def to_read(self) -> "KernelChanges":
        """What the next observation reads."""
        return self if self.is_reason else self | EVERYTHING


NOTHING = KernelChanges()
EVERYTHING = KernelChanges(everything=True)
UNKNOWN = KernelChanges(everything=True, awaited_routes=True)
