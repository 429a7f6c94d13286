"""Exponential backoff with jitter."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: ``base``, doubled with each failure up to ``cap``, of which a random half is subtracted.

    The fixed half limits the load on a failing server; the random half spreads clients that failed together.
    """

    base: float = 0.2
    cap: float = 60.0

    def delay(self, failures: int, *, at_least: float | None = None, random_: random.Random | None = None) -> float:
        """Return the delay after ``failures`` (1, 2, ...) in a row; at least ``at_least``, such as a Retry-After."""
        # The exponent is bounded so that the float cannot overflow after days of failures.
        full = min(self.cap, self.base * 2.0 ** min(max(failures, 1) - 1, 32))
        jittered = full * (0.5 + 0.5 * (random_ or random).random())
        return max(jittered, at_least or 0.0)
