"""Somebody else changes again and again what we repair: repairs are paced, so that nobody's processor is used up.

A repair is immediate as long as there are not very many: a link that flaps, or a daemon that restarts, is no fight.
"""

from dataclasses import dataclass

WINDOW = 10.0
"""Seconds over which repairs are counted."""

MANY = 100
"""Repairs in the window from which on it counts as a fight."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0


@dataclass(frozen=True, slots=True)
class RepairDamping:
    """When something had to be repaired lately, in seconds of one monotonic clock."""

    times: tuple[float, ...] = ()

    def record(self, now: float) -> "RepairDamping":
        return RepairDamping((*(time for time in self.times if now - time < WINDOW), now))

    def pause(self, now: float) -> float:
        """Seconds to wait before the next repair: 0 in peace, then doubled with every ten repairs more."""
        count = sum(now - time < WINDOW for time in self.times)
        if count < MANY:
            return 0.0
        return min(FIRST_PAUSE * 2.0 ** ((count - MANY) // 10), LONGEST_PAUSE)
