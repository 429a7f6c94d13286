"""The event loop gets its turn: work that needs no I/O must not delay renewals of the lease, probes and watches."""

import asyncio
from collections.abc import Callable

import pytest

from overlay_net.model.errors import Unavailable
from overlay_net.runtime.worker import Requeue, run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.fakes.turns import Turns

KEYS = 500


def settled(_: int) -> Requeue | None:
    return None


def again(_: int) -> Requeue | None:
    return Requeue(0)


def failing(_: int) -> Requeue | None:
    raise Unavailable("no answer")


def broken(_: int) -> Requeue | None:
    raise KeyError("a bug")


@pytest.mark.parametrize("outcome", [settled, again, failing, broken])
@pytest.mark.parametrize("workers", [1, 4, 16])
async def test_keys_without_anything_to_do_are_reconciled_one_per_turn(
    outcome: Callable[[int], Requeue | None], workers: int
) -> None:
    queue, turns, done = WorkQueue(), Turns(), asyncio.Event()

    async def reconcile(_: str) -> Requeue | None:
        turns.step()
        if turns.total == KEYS:
            done.set()
        return outcome(turns.total) if turns.total < KEYS else None

    async with turns.counted():
        task = asyncio.create_task(run_workers("test", queue, reconcile, workers=workers))
        # The workers are waiting when all keys arrive at once.
        await asyncio.sleep(0)
        for number in range(KEYS):
            queue.add(str(number))
        await asyncio.wait_for(done.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert turns.longest == 1
