"""Repair damping: backs off when another process keeps reverting our changes, so that neither uses up a CPU.

A few repairs are immediate: a flapping link or a restarted daemon does not start the backoff.
"""

from dataclasses import dataclass

WINDOW = 10.0
"""Seconds over which repairs are counted."""

LIMIT = 100
"""Number of repairs in the window above which they are delayed."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0


@dataclass(frozen=True, slots=True)
class RepairDamping:
    """Times of recent repairs, in seconds of one monotonic clock."""

    times: tuple[float, ...] = ()

    def record(self, now: float) -> "RepairDamping":
        """Return the state after one more repair."""
        return RepairDamping((*(time for time in self.times if now - time < WINDOW), now))

    def pause(self, now: float) -> float:
        """Return the delay of the next repair in seconds: 0 below the limit, then doubled for every ten repairs."""
        count = sum(now - time < WINDOW for time in self.times)
        if count < LIMIT:
            return 0.0
        return min(FIRST_PAUSE * 2.0 ** ((count - LIMIT) // 10), LONGEST_PAUSE)
