"""Repair damping: endless repairs are delayed, all others are immediate."""

from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.kernel.repair_damping import LIMIT, LONGEST_PAUSE, WINDOW, RepairDamping


def repair_often(count: int, every: float) -> tuple[RepairDamping, float]:
    repairs, now = RepairDamping(), 0.0
    for _ in range(count):
        repairs = repairs.record(now)
        now += every + repairs.pause(now)
    return repairs, now


def test_a_few_repairs_are_immediate() -> None:
    repairs, now = repair_often(LIMIT - 1, 0.01)
    assert repairs.pause(now) == 0


def test_endless_repairs_are_limited_to_a_rate() -> None:
    count = 2000
    _, seconds = repair_often(count, 0.001)
    assert count / seconds * WINDOW < 2 * LIMIT


def test_repairs_are_immediate_again_after_a_quiet_window() -> None:
    repairs, now = repair_often(500, 0.001)
    assert repairs.pause(now) > 0
    assert repairs.pause(now + WINDOW) == 0


@given(st.lists(st.floats(0, 1), max_size=300))
def test_no_pause_is_longer_than_the_limit(gaps: list[float]) -> None:
    repairs, now = RepairDamping(), 0.0
    for gap in gaps:
        now += gap
        repairs = repairs.record(now)
        assert 0 <= repairs.pause(now) <= LONGEST_PAUSE
