"""An agent that waits for another one on its node: when it counts as ready, and what ends its wait."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from overlay_net.adapters.namespace_lock import Holder, NamespaceLock
from overlay_net.agent.standby import OVERLAP, Standby

NAME = f"overlay-net/test/{os.getpid()}"


@pytest.fixture
def locks() -> Iterator[tuple[NamespaceLock, NamespaceLock]]:
    one, other = NamespaceLock(NAME), NamespaceLock(NAME)
    yield one, other
    one.close()
    other.close()


async def test_waiting_agent_is_ready_as_long_as_a_rolling_update_takes(
    locks: tuple[NamespaceLock, NamespaceLock],
) -> None:
    now = 100.0
    assert locks[0].acquire() is None
    standby = Standby(locks[1], lambda: now)
    task = asyncio.create_task(standby.wait())
    async with asyncio.timeout(10):
        while not standby.waiting:
            await asyncio.sleep(0)
    now += OVERLAP - 1
    assert not standby.problem
    now += 1
    assert "another agent manages this node" in standby.problem
    locks[0].close()
    async with asyncio.timeout(10):
        await task
    assert (standby.waiting, standby.problem) == (False, "")
    assert locks[0].acquire() is not None


async def test_a_cancelled_wait_leaves_the_lock_with_its_holder(locks: tuple[NamespaceLock, NamespaceLock]) -> None:
    assert locks[0].acquire() is None
    standby = Standby(locks[1], lambda: 0.0)
    task = asyncio.create_task(standby.wait())
    async with asyncio.timeout(10):
        while not standby.waiting:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert locks[1].acquire() == Holder(os.getpid(), os.geteuid())
    locks[0].close()
    assert locks[1].acquire() is None


async def test_holder_is_known_however_often_another_agent_is_restarted(
    locks: tuple[NamespaceLock, NamespaceLock],
) -> None:
    """A holder that is not known is taken for another program."""
    assert locks[0].acquire() is None
    assert {locks[1].acquire() for _ in range(300)} == {Holder(os.getpid(), os.geteuid())}


async def test_a_lock_is_free_at_once_after_it_was_released(locks: tuple[NamespaceLock, NamespaceLock]) -> None:
    for one, other in (locks, locks[::-1]):
        assert one.acquire() is None
        assert one.acquire() is None, "it is held already"
        assert other.acquire() == Holder(os.getpid(), os.geteuid())
        one.close()
        one.close()
