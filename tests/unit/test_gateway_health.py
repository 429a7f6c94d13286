"""Gateway health: thresholds, the hold that keeps traffic from moving back and forth, and the probed gateways."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.kernel.gateway_health import (
    FIRST_HOLD,
    LONGEST_HOLD,
    WINDOW,
    GatewayHealth,
    Target,
    hold_seconds,
    next_health,
    probe_targets,
)
from overlay_net.model.desired_route import DesiredRoute, Gateway, HealthCheck, RouteSpec
from overlay_net.model.kernel import Address, Link, Observed
from tests.unit.factories import desired_route

CHECK = HealthCheck(failures=2, successes=3)


def states_after(
    answers: str, check: HealthCheck = CHECK, health: GatewayHealth | None = None, start: float = 0.0
) -> str:
    """The state (``u`` or ``d``) after the result (``+`` or ``-``) of each second."""
    states = ""
    health = health or GatewayHealth()
    for second, answer in enumerate(answers):
        health = next_health(health, check, answer == "+", start + second)
        states += "d" if health.down else "u"
    return states


@pytest.mark.parametrize(
    ("answers", "states", "check"),
    [
        ("", "", CHECK),
        ("++++", "uuuu", CHECK),
        ("-", "u", CHECK),
        ("--", "ud", CHECK),
        ("-+-+-+", "uuuuuu", CHECK),
        ("+--", "uud", CHECK),
        ("-", "d", HealthCheck(failures=1)),
        # Down at 1 s, held until 6 s.
        ("--+++++++", "uddddduuu", CHECK),
        # A failure in between restarts the streak.
        ("--+++-+++", "udddddddu", CHECK),
        ("--++++-++", "udddddddd", CHECK),
        # Held until 6 s, and three answers are needed.
        ("--------+++", "udddddddddu", CHECK),
    ],
)
def test_streaks_of_results_change_the_state(answers: str, states: str, check: HealthCheck) -> None:
    assert states_after(answers, check) == states


def fall(health: GatewayHealth, now: float) -> tuple[GatewayHealth, float]:
    """Down and up again as fast as possible: the state and the time afterwards."""
    for down in (False, True):
        while health.down is down:
            health = next_health(health, CHECK, down, now)
            now += 1
    return health, now


def test_a_flapping_gateway_is_held_longer_each_time_and_recovers_slowly() -> None:
    health, now, held = GatewayHealth(), 0.0, []
    for _ in range(9):
        health, now = fall(health, now)
        held.append(hold_seconds(health.falls))
    assert held == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    health, now = fall(health, now + 3 * WINDOW)
    assert hold_seconds(health.falls) == 80, "three stable windows take three of seven falls off, and this one is new"
    health, now = fall(health, now + 20 * WINDOW)
    assert hold_seconds(health.falls) == FIRST_HOLD


checks = st.builds(HealthCheck, failures=st.integers(1, 5), successes=st.integers(1, 5))
results = st.lists(st.tuples(st.booleans(), st.floats(0.0, 900.0)), max_size=80)


@given(checks, results)
def test_never_down_without_a_streak_of_failures_nor_up_without_answers_and_hold(
    check: HealthCheck, history: list[tuple[bool, float]]
) -> None:
    health, now = GatewayHealth(), 0.0
    streak, last, fell = 0, None, 0.0
    for alive, pause in history:
        now += pause
        streak = streak + 1 if alive == last else 1
        last = alive
        before, health = health, next_health(health, check, alive, now)
        if health.down and not before.down:
            assert not alive
            assert streak >= check.failures
            fell = now
            assert now + FIRST_HOLD <= health.held_until <= now + LONGEST_HOLD
        if before.down and not health.down:
            assert alive
            assert streak >= check.successes
            assert now >= fell + FIRST_HOLD
        if not before.down and not health.down and not alive:
            assert streak < check.failures


@given(checks, results, st.booleans())
def test_a_long_streak_always_decides(check: HealthCheck, history: list[tuple[bool, float]], alive: bool) -> None:
    health, now = GatewayHealth(), 0.0
    for answer, pause in history:
        now += pause
        health = next_health(health, check, answer, now)
    for _ in range(int(LONGEST_HOLD) + 6):
        now += 1
        health = next_health(health, check, alive, now)
    assert health.down is not alive


OBSERVED = Observed(
    links=(
        Link(1, "eth0", None, None, None, True),
        Link(2, "tmp0", "macvlan", 1, "overlay-net", True),
        Link(3, "eth1", None, None, None, False),
        Link(4, "tun0", "tun", None, None, True, ethernet=False, arp=False),
    ),
    addresses=(
        Address(1, ip_interface("10.176.162.151/26"), None),
        Address(1, ip_interface("fd00::2/64"), None),
        Address(2, ip_interface("192.168.100.4/24"), 117),
        Address(3, ip_interface("172.16.0.2/24"), None),
        Address(4, ip_interface("172.17.0.2/24"), None),
    ),
)


def route(*gateways: str, check: HealthCheck = CHECK, on_link: bool = False) -> DesiredRoute:
    hops = tuple(Gateway(ip_address(each), priority=number) for number, each in enumerate(gateways))
    return DesiredRoute.to(ip_network("10.0.0.0/8"), RouteSpec(hops, check=check, on_link=on_link))


@pytest.mark.parametrize(
    ("desired", "targets"),
    [
        (route("192.168.100.1", "192.168.100.2"), {("192.168.100.1", "tmp0"), ("192.168.100.2", "tmp0")}),
        (route("10.176.162.129"), {("10.176.162.129", "eth0")}),
        (route("fd00::1"), {("fd00::1", "eth0")}),
        (route("172.16.0.1"), set()),
        (route("172.17.0.1"), set()),
        (route("172.17.0.1", check=HealthCheck("icmp")), {("172.17.0.1", "tun0")}),
        (route("172.17.0.1", check=HealthCheck("tcp", 179)), {("172.17.0.1", "tun0")}),
        (route("10.9.9.9"), set()),
        (route("10.9.9.9", on_link=True), {("10.9.9.9", "tmp0")}),
        (route("fd09::9", on_link=True), set()),
        (route("192.168.100.1", check=HealthCheck("none")), set()),
        (desired_route("10.0.0.0/8", kind="blackhole"), set()),
    ],
)
def test_probed_gateways_and_their_source_addresses(desired: DesiredRoute, targets: set[tuple[str, str]]) -> None:
    found = probe_targets([desired, desired], OBSERVED, "tmp0")
    assert {(str(target.address), target.link) for target in found} == targets
    sources = {
        "tmp0": ip_address("192.168.100.4"),
        "tun0": ip_address("172.17.0.2"),
        "eth0": ip_address("10.176.162.151"),
    }
    for target in found:
        assert isinstance(target, Target)
        assert target.source == (sources[target.link] if target.address.version == 4 else ip_address("fd00::2"))
