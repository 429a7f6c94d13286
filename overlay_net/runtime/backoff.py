"""Exponential back-off with jitter: how long to wait after the n-th failure in a row."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: ``base``, doubled on each failure, ``cap`` at the most, each cut by up to half at random.

    Half of every delay is certain, so that a failing peer is never hammered; the other half is spread, so that many
    clients that failed together do not come back together.
    """

    base: float = 0.2
    cap: float = 60.0

    def delay(self, failures: int, *, at_least: float | None = None, random_: random.Random | None = None) -> float:
        """Seconds to wait after ``failures`` (1, 2, ...) in a row; never less than what the server asked for."""
        # The exponent is bounded so that the float cannot overflow after days of failing.
        full = min(self.cap, self.base * 2.0 ** min(max(failures, 1) - 1, 32))
        jittered = full * (0.5 + 0.5 * (random_ or random).random())
        return max(jittered, at_least or 0.0)
