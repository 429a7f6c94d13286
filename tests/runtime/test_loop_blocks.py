"""The longest block of an event loop is known, and an idle loop is left alone."""

import asyncio
import time

from overlay_net.runtime.loop_blocks import INTERVAL, LoopBlocks


class Clock:
    """A clock, and the CPU time of a thread, that the code of a test moves."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def run_for(self, seconds: float, *, running: float = 1.0) -> None:
        """Pass this time, in which the thread runs for this share."""
        self.now += seconds
        self.used += seconds * running


async def block(clock: Clock, blocks: LoopBlocks, seconds: float, *, running: float = 1.0) -> None:
    """Run something for this long, and wait for the tick after it."""
    blocks.active()
    clock.run_for(seconds, running=running)
    await asyncio.sleep(2 * INTERVAL)


async def test_the_longest_block_is_kept() -> None:
    clock = Clock()
    blocks = LoopBlocks(lambda: clock.now, lambda: clock.used)
    for seconds in (0.02, 0.08, 0.04):
        await block(clock, blocks, seconds)
    assert blocks.longest == blocks.longest_cpu == 0.08 - INTERVAL


async def test_time_in_which_other_processes_run_is_not_cpu_time_of_the_block() -> None:
    clock = Clock()
    blocks = LoopBlocks(lambda: clock.now, lambda: clock.used)
    await block(clock, blocks, 0.1, running=0.2)
    assert (blocks.longest, round(blocks.longest_cpu, 6)) == (0.1 - INTERVAL, 0.02)


async def test_a_block_in_a_later_turn_of_a_busy_loop_counts() -> None:
    clock = Clock()
    blocks = LoopBlocks(lambda: clock.now, lambda: clock.used)
    blocks.active()
    clock.run_for(0.02)
    # Until the first tick.
    await asyncio.sleep(INTERVAL)
    clock.run_for(0.07)
    await asyncio.sleep(2 * INTERVAL)
    assert blocks.longest == 0.07 - INTERVAL


async def test_an_idle_loop_is_not_woken() -> None:
    blocks = LoopBlocks()
    blocks.active()
    await asyncio.sleep(4 * INTERVAL)
    asked = 0

    def count() -> float:
        nonlocal asked
        asked += 1
        return time.monotonic()

    blocks._clock = count
    await asyncio.sleep(4 * INTERVAL)
    assert asked == 0
