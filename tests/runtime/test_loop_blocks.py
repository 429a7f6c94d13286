"""The longest block of an event loop is known, and an idle loop is left alone."""

import asyncio

from overlay_net.runtime.loop_blocks import INTERVAL, LoopBlocks
from tests.runtime.conftest import Run


class Clock:
    """The clock of the loop, and the CPU time of its thread; code of a test moves both."""

    def __init__(self) -> None:
        self.blocked = self.used = 0.0
        self.reads = 0

    def now(self) -> float:
        self.reads += 1
        return asyncio.get_running_loop().time() + self.blocked

    def run_for(self, seconds: float, *, running: float = 1.0) -> None:
        """Pass this time without a turn of the loop, in which the thread runs for this share."""
        self.blocked += seconds
        self.used += seconds * running

    def blocks(self) -> LoopBlocks:
        return LoopBlocks(self.now, lambda: self.used)


def test_the_longest_block_is_kept(virtual_time: Run) -> None:
    async def main() -> None:
        clock = Clock()
        blocks = clock.blocks()
        for seconds in (0.02, 0.08, 0.04):
            blocks.active()
            clock.run_for(seconds)
            await asyncio.sleep(4 * INTERVAL)
        assert round(blocks.longest, 6) == round(blocks.longest_cpu, 6) == 0.08

    virtual_time(main())


def test_time_in_which_other_processes_run_is_not_cpu_time_of_the_block(virtual_time: Run) -> None:
    async def main() -> None:
        clock = Clock()
        blocks = clock.blocks()
        blocks.active()
        clock.run_for(0.1, running=0.2)
        await asyncio.sleep(4 * INTERVAL)
        assert (round(blocks.longest, 6), round(blocks.longest_cpu, 6)) == (0.1, 0.02)

    virtual_time(main())


def test_a_block_in_a_later_turn_of_a_busy_loop_counts(virtual_time: Run) -> None:
    async def main() -> None:
        clock = Clock()
        blocks = clock.blocks()
        blocks.active()
        clock.run_for(0.02)
        # One tick, after which the loop is still busy.
        await asyncio.sleep(1.5 * INTERVAL)
        clock.run_for(0.07)
        await asyncio.sleep(4 * INTERVAL)
        assert round(blocks.longest, 6) == 0.07

    virtual_time(main())


def test_an_idle_loop_is_not_woken(virtual_time: Run) -> None:
    async def main() -> None:
        clock = Clock()
        clock.blocks().active()
        await asyncio.sleep(4 * INTERVAL)
        before = clock.reads
        await asyncio.sleep(400 * INTERVAL)
        assert clock.reads == before

    virtual_time(main())
