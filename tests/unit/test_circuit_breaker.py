"""The circuit breaker of phpIPAM on a clock of its own: which failures open it, and for how long."""

import pytest

from overlay_net.adapters.phpipam import CircuitBreaker
from overlay_net.adapters.phpipam.responses import ResponseLost
from overlay_net.model.errors import CredentialsRefused, Unavailable
from overlay_net.runtime.backoff import Backoff

DOWN = Unavailable("502 Bad Gateway")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock, probe_seconds=45.0, backoff=Backoff(base=0.5, cap=30.0))


def pause(subject: CircuitBreaker) -> float:
    """Seconds until the next probe."""
    with pytest.raises(Unavailable) as refused:
        subject.admit()
    assert refused.value.retry_after is not None
    return refused.value.retry_after


@pytest.mark.parametrize("concurrent", [3, 16, 200])
def test_calls_in_flight_that_fail_together_open_the_breaker_once(concurrent: int) -> None:
    subject = breaker(Clock())
    admitted = [subject.admit() for _ in range(concurrent)]
    for openings in admitted:
        subject.record_failure(DOWN, openings)
    assert pause(subject) <= 0.5


def test_a_call_from_before_the_opening_does_not_reopen_a_half_open_breaker() -> None:
    clock = Clock()
    subject = breaker(clock)
    old = [subject.admit() for _ in range(4)]
    for openings in old[:3]:
        subject.record_failure(DOWN, openings)
    clock.now += 0.5
    probe = subject.admit()
    subject.record_failure(DOWN, old[3])
    assert pause(subject) == 45.0, "it waits for the probe"
    subject.record_failure(DOWN, probe)
    assert pause(subject) <= 1.0, "only the probe extends the pause"


def test_a_call_from_before_an_outage_and_recovery_does_not_count() -> None:
    clock = Clock()
    subject = breaker(clock)
    slow = [subject.admit() for _ in range(3)]
    for _ in range(3):
        subject.record_failure(DOWN, subject.admit())
    clock.now += 0.5
    subject.admit()
    subject.record_success()
    for openings in slow:
        subject.record_failure(DOWN, openings)
    assert subject.error is None


def test_rejected_credentials_of_a_call_in_flight_open_the_breaker() -> None:
    subject = breaker(Clock())
    admitted = [subject.admit() for _ in range(4)]
    for openings in admitted[:3]:
        subject.record_failure(DOWN, openings)
    subject.record_failure(CredentialsRefused("wrong password"), admitted[3])
    assert pause(subject) == 300.0, "each further login counts towards a lock-out"


def test_request_that_was_not_sent_does_not_count_as_a_lost_response() -> None:
    subject = breaker(Clock())
    for _ in range(3):
        subject.record_failure(ResponseLost("no response"), subject.admit())
    with pytest.raises(Unavailable) as refused:
        subject.admit()
    assert not isinstance(refused.value, ResponseLost)


def test_probe_that_shows_nothing_is_followed_by_another() -> None:
    clock = Clock()
    subject = breaker(clock)
    for _ in range(3):
        subject.record_failure(DOWN, subject.admit())
    clock.now += 0.5
    subject.return_probe(subject.admit())
    assert subject.admit() == 1
    pause(subject)
