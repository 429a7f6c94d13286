"""Hosts that were heard: their number, the reports and the reactions do not grow with the number of packets."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.agent.heard_hosts import HeardHosts
from overlay_net.agent.paced import Paced
from tests.fakes.virtual_time import VirtualTimeLoop


def test_of_several_hosts_the_first_one_counts_until_it_is_silent() -> None:
    heard = HeardHosts[str, str](60.0)
    assert heard.record("address", "first", 0.0)
    assert not heard.record("address", "second", 30.0)
    assert not heard.record("address", "first", 40.0)
    assert heard.recent(100.0) == ("first",)
    assert heard.recent(100.1) == ()
    assert heard.record("address", "second", 101.0)
    assert heard.recent(101.0) == ("second",)


def test_hosts_of_forgotten_keys_do_not_count() -> None:
    heard = HeardHosts[str, str](60.0)
    for key in ("a", "b"):
        heard.record(key, f"host of {key}", 0.0)
    heard.keep({"b"})
    assert heard.recent(0.0) == ("host of b",)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300), st.floats(0, 10)), max_size=50))
def test_forged_senders_neither_add_up_nor_count_as_new_more_often_than_the_expiry(
    packets: list[tuple[str, int, float]],
) -> None:
    heard, now = HeardHosts[str, int](60.0), 0.0
    new: dict[str, list[float]] = {"a": [], "b": []}
    for key, host, pause in packets:
        now += pause
        if heard.record(key, host, now):
            new[key].append(now)
        assert len(heard.recent(now)) <= 2
    for times in new.values():
        assert all(later - earlier > 60.0 for earlier, later in pairwise(times))


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([0.0], [0.0]),
        ([0.0, 0.1, 0.2], [0.0, 5.0]),
        ([number * 0.01 for number in range(1000)], [0.0, 5.0, 10.0]),
        ([0.0, 7.0], [0.0, 7.0]),
        ([0.0, 1.0, 11.0], [0.0, 5.0, 11.0]),
    ],
)
def test_reactions_are_immediate_and_then_paced_and_the_last_request_is_followed(
    requests: list[float], expected: list[float]
) -> None:
    acted: list[float] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        paced = Paced(lambda: acted.append(loop.time() - began), 5.0)
        for at in requests:
            await asyncio.sleep(began + at - loop.time())
            paced.request()
        await asyncio.sleep(20)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play())
    assert acted == pytest.approx(expected, abs=0.02)


def test_nothing_happens_after_a_cancellation() -> None:
    acted: list[Callable[[], None]] = []

    async def play() -> None:
        paced = Paced(lambda: acted.append(paced.cancel), 5.0)
        paced.request()
        paced.request()
        paced.cancel()
        await asyncio.sleep(20)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play())
    assert len(acted) == 1
