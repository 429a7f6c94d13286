"""Paces reactions to routes of other processes: a few are immediate, and a flapping route causes a bounded number."""

from dataclasses import dataclass

BURST = 20
"""Number of immediate reactions."""

INTERVAL = 0.5
"""Seconds between two reactions in the long run."""


@dataclass(frozen=True, slots=True)
class WakePacing:
    """The generic cell rate algorithm (ITU-T I.371); times are seconds of one monotonic clock."""

    expected: float = float("-inf")
    """When the next reaction would be due at the long-run rate."""
    due: float = float("-inf")
    """When the latest reaction is due."""

    def request(self, now: float) -> "WakePacing":
        """Return the state after a request; one that is due in the future is the reaction to this request as well."""
        if now < self.due:
            return self
        expected = max(self.expected, now) + INTERVAL
        return WakePacing(expected, max(now, expected - BURST * INTERVAL))
