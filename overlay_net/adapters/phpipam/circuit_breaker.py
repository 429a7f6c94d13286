"""A circuit breaker: no requests during an outage, while our address is blocked, or with bad credentials.

When closed, it admits every call. When open, it fails each call at once with the error that opened it, so that callers
wait in their queue instead of in a connection. When half-open, it admits one call as a probe, whose result closes or
reopens it; the pauses between probes grow.
"""

import logging
from collections.abc import Callable

from overlay_net.model.errors import CredentialsRefused, Unavailable
from overlay_net.runtime.backoff import Backoff

log = logging.getLogger(__name__)

FAILURE_THRESHOLD = 3
"""Consecutive failures that open the breaker."""

REFUSED_SECONDS = 300.0
"""Delay between two attempts with rejected credentials, unless the error names another one: phpIPAM blocks a source
address after eleven failed logins."""


class CircuitBreaker:
    """``clock`` is monotonic, in seconds; ``probe_seconds`` is how long a half-open breaker waits for its probe.

    ``on_opening`` is called when the breaker opens, ``on_recovery`` when it may be closed again or is. ``subject`` is
    what the breaker guards, in logs.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        probe_seconds: float,
        on_recovery: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
        on_opening: Callable[[], None] = lambda: None,
        subject: str = "server",
    ) -> None:
        self._clock = clock
        self._probe_seconds = probe_seconds
        self._on_recovery = on_recovery
        self._on_opening = on_opening
        self._subject = subject
        self._backoff = backoff or Backoff(base=0.5, cap=30.0)
        self._failures = 0
        self._error: Unavailable | None = None
        self._next_probe = 0.0
        self._openings = 0

    @property
    def error(self) -> Unavailable | None:
        """The error that opened the breaker; None while it is closed."""
        return self._error

    def check(self) -> None:
        """Raise the error that opened the breaker, with the seconds until the next probe, unless it admits a call."""
        remaining = self._next_probe - self._clock()
        if self._error is not None and remaining > 0:
            raise self._error_for_caller(remaining)

    def admit(self) -> int:
        """Admit a call or raise as ``check``.

        Returns how often the breaker has opened so far, for ``recheck``, ``record_failure`` and ``return_probe``.
        """
        self.check()
        if self._error is not None:
            # Half-open: this call is the probe; other calls fail until its result is known.
            self._next_probe = self._clock() + self._probe_seconds
        return self._openings

    def return_probe(self, openings: int) -> None:
        """Admit another call as the probe, because this one shows neither a failure nor a success."""
        if self._error is not None and openings == self._openings:
            self._next_probe = self._clock()

    def recheck(self, openings: int) -> None:
        """Raise the error if the breaker has opened since a waiting call was admitted."""
        if self._error is not None and openings != self._openings:
            raise self._error_for_caller(max(0.0, self._next_probe - self._clock()))

    def record_failure(self, error: Unavailable, openings: int) -> None:
        """Open the breaker for rejected credentials, a blocked address, or consecutive failures.

        Calls that were admitted before the breaker last opened fail from the same outage: they are no further probes,
        and do not extend the pause. Rejected credentials count in any case.
        """
        if isinstance(error, CredentialsRefused):
            self._open(error, error.retry_after or REFUSED_SECONDS)
            return
        if openings != self._openings:
            return
        self._failures += 1
        if error.retry_after is not None:
            self._open(error, error.retry_after)
        elif self._failures >= FAILURE_THRESHOLD or self._error is not None:
            self._open(error, self._backoff.delay(max(1, self._failures - FAILURE_THRESHOLD + 1)))

    def record_success(self) -> None:
        """Close the breaker."""
        self._failures = 0
        if self._error is not None:
            log.info("phpIPAM is reachable again", extra={"subject": self._subject})
            self._error = None
            self._on_recovery()

    def allow_probe(self) -> None:
        """Make an open breaker half-open now, because the cause may be gone."""
        self._failures = 0
        if self._error is not None:
            self._next_probe = self._clock()
            self._on_recovery()

    def _open(self, error: Unavailable, seconds: float) -> None:
        if self._error is None or self._error.message != error.message:
            fields = {"subject": self._subject, "delay_seconds": round(seconds, 1), "error": str(error)}
            log.warning("pausing requests to phpIPAM", extra=fields)
        was_closed = self._error is None
        self._error = error
        self._next_probe = self._clock() + seconds
        self._openings += 1
        if was_closed:
            self._on_opening()

    def _error_for_caller(self, retry_after: float) -> Unavailable:
        # Never a lost response: the request of this caller is not sent.
        kind = CredentialsRefused if isinstance(self._error, CredentialsRefused) else Unavailable
        return kind(self._error.message if self._error else "", retry_after=retry_after)
