"""When phpIPAM is not asked: while it does not answer, while it has locked us out, while it refuses who we are.

A server in trouble is asked by one caller at a time, after growing pauses; everybody else is told at once what is wrong
and for how long, and waits in a queue instead of in a connection.
"""

import logging
from collections.abc import Callable

from overlay_net.model.errors import CredentialsRefused, Unavailable
from overlay_net.runtime.backoff import Backoff

log = logging.getLogger(__name__)

TOLERATED = 3
"""Failures in a row, with nothing good in between, that are taken for an outage."""

REFUSED_SECONDS = 300.0
"""Between two tries with credentials that were refused: eleven failures would lock out everybody behind our address."""


class CircuitBreaker:
    """``clock`` gives seconds that only grow; ``on_recovery`` is called when phpIPAM answers again."""

    def __init__(
        self,
        clock: Callable[[], float],
        probe_seconds: float,
        on_recovery: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        self._clock = clock
        self._probe_seconds = probe_seconds
        self._on_recovery = on_recovery
        self._backoff = backoff or Backoff(base=0.5, cap=30.0)
        self._failures = 0
        self._error: Unavailable | None = None
        self._until = 0.0
        self._closings = 0

    @property
    def error(self) -> Unavailable | None:
        """What keeps it closed."""
        return self._error

    def enter(self) -> int:
        """A ticket to ask. Raises what is wrong, with the seconds until the next try, while nobody may."""
        if self._error is not None:
            left = self._until - self._clock()
            if left > 0:
                raise self._told(left)
            # This caller goes ahead; the others wait for what it finds.
            self._until = self._clock() + self._probe_seconds
        return self._closings

    def recheck(self, ticket: int) -> None:
        """For a caller that had to wait since it entered: raises what went wrong meanwhile."""
        if self._error is not None and ticket != self._closings:
            raise self._told(max(0.0, self._until - self._clock()))

    def failed(self, error: Unavailable) -> None:
        """A call ended so. Closes the gate for credentials, for a lock-out, and for failures in a row."""
        self._failures += 1
        if isinstance(error, CredentialsRefused):
            self._close(error, REFUSED_SECONDS)
        elif error.retry_after is not None:
            self._close(error, error.retry_after)
        elif self._failures >= TOLERATED or self._error is not None:
            self._close(error, self._backoff.delay(max(1, self._failures - TOLERATED + 1)))

    def succeeded(self) -> None:
        self._failures = 0
        if self._error is not None:
            log.info("phpIPAM answers again")
            self._error = None
            self._on_recovery()

    def reset(self) -> None:
        """What closed it may be over: let the next caller try."""
        self._failures = 0
        if self._error is not None:
            self._until = self._clock()
            self._on_recovery()

    def _close(self, error: Unavailable, seconds: float) -> None:
        if self._error is None or str(self._error) != str(error):
            log.warning("phpIPAM is not asked for %.1f s: %s", seconds, error)
        self._error = error
        self._until = self._clock() + seconds
        self._closings += 1

    def _told(self, seconds: float) -> Unavailable:
        assert self._error is not None
        return type(self._error)(str(self._error), retry_after=seconds)
