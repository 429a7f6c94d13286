"""A fight over the kernel is fought slowly, and everything else at once."""

from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.kernel.repair_damping import LIMIT, LONGEST_PAUSE, WINDOW, RepairDamping


def fought(count: int, every: float) -> tuple[RepairDamping, float]:
    repairs, now = RepairDamping(), 0.0
    for _ in range(count):
        repairs = repairs.record(now)
        now += every + repairs.pause(now)
    return repairs, now


def test_some_repairs_are_made_at_once() -> None:
    repairs, now = fought(LIMIT - 1, 0.01)
    assert repairs.pause(now) == 0


def test_a_fight_is_slowed_down_to_a_bounded_number_of_repairs() -> None:
    count = 2000
    _, seconds = fought(count, 0.001)
    assert count / seconds * WINDOW < 2 * LIMIT


def test_peace_is_noticed() -> None:
    repairs, now = fought(500, 0.001)
    assert repairs.pause(now) > 0
    assert repairs.pause(now + WINDOW) == 0


@given(st.lists(st.floats(0, 1), max_size=300))
def test_a_pause_is_never_longer_than_the_longest(gaps: list[float]) -> None:
    repairs, now = RepairDamping(), 0.0
    for gap in gaps:
        now += gap
        repairs = repairs.record(now)
        assert 0 <= repairs.pause(now) <= LONGEST_PAUSE
