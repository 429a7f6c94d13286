"""The circuit breakers of phpIPAM by cause: one for the server, and two for each subnet, for its reads and its writes.

Connections, logins and proxies concern the server and therefore all requests. A request for one subnet that phpIPAM
received but failed to process concerns only that subnet: for example, its DNS server or the mail about its threshold
fails after a write, or its rows exceed the memory of PHP.
"""

from collections.abc import Callable
from dataclasses import dataclass

from overlay_net.adapters.phpipam.circuit_breaker import CircuitBreaker
from overlay_net.adapters.phpipam.responses import RequestFailed
from overlay_net.model.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that its breakers have admitted. Exactly one of the last three methods is called, once."""

    server: tuple[CircuitBreaker, int]
    """The breaker, and how often it had opened when it admitted the request."""
    subnet: tuple[CircuitBreaker, int] | None

    def recheck(self) -> None:
        """Raise the error of the server if its breaker has opened since."""
        breaker, openings = self.server
        breaker.recheck(openings)

    def succeeded(self) -> None:
        """Record that phpIPAM has processed the request, be it with an error."""
        for breaker, _ in self._all:
            breaker.record_success()

    def failed(self, error: Unavailable) -> None:
        """Record a failure with its cause."""
        cause = self.subnet if self.subnet is not None and isinstance(error, RequestFailed) else self.server
        for breaker, openings in self._all:
            if breaker is cause[0]:
                breaker.record_failure(error, openings)
            else:
                breaker.return_probe(openings)

    def abandoned(self) -> None:
        """Record that nothing was learned, because the request was not sent or its caller was cancelled."""
        for breaker, openings in self._all:
            breaker.return_probe(openings)

    @property
    def _all(self) -> tuple[tuple[CircuitBreaker, int], ...]:
        return (self.server,) if self.subnet is None else (self.server, self.subnet)


class CircuitBreakers:
    """``clock``, ``probe_seconds``, ``on_recovery`` and ``on_opening`` are those of each CircuitBreaker."""

    def __init__(
        self,
        clock: Callable[[], float],
        probe_seconds: float,
        on_recovery: Callable[[], None] = lambda: None,
        on_opening: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._probe_seconds = probe_seconds
        self._on_recovery = on_recovery
        self._on_opening = on_opening
        self.server = self._breaker("server")
        self._reads: dict[int, CircuitBreaker] = {}
        self._writes: dict[int, CircuitBreaker] = {}

    @property
    def error(self) -> Unavailable | None:
        """Why phpIPAM cannot be used at all; None if the server answers and at least one subnet can be read."""
        errors = [breaker.error for breaker in self._reads.values()]
        return self.server.error or (errors[0] if errors and all(errors) else None)

    def admit(self, subnet: int, *, is_read: bool) -> Admission:
        """Admit a request, or raise the error that opened one of its breakers; ``subnet`` is 0 if it concerns none."""
        own = self._find(self._reads if is_read else self._writes, subnet) if subnet else None
        if own is not None:
            # Both have to admit the request before one of them may use it as its probe.
            own.check()
        server = self.server, self.server.admit()
        return Admission(server, None if own is None else (own, own.admit()))

    def find_write_error(self, subnet: int) -> Unavailable | None:
        """Return why no rows are written in a subnet, although it may be readable."""
        breaker = self._writes.get(subnet)
        return None if breaker is None else breaker.error

    def confirm_write(self, subnet: int) -> None:
        """Record that a write took place although its response was a failure."""
        if subnet in self._writes:
            self._writes[subnet].record_success()

    def _find(self, breakers: dict[int, CircuitBreaker], subnet: int) -> CircuitBreaker:
        if subnet not in breakers:
            kind = "reads" if breakers is self._reads else "writes"
            breakers[subnet] = self._breaker(f"{kind} of subnet {subnet}")
        return breakers[subnet]

    def _breaker(self, subject: str) -> CircuitBreaker:
        return CircuitBreaker(
            self._clock, self._probe_seconds, self._on_recovery, on_opening=self._on_opening, subject=subject
        )
