"""Workers: the answer of a reconciliation decides when its key comes back; only cancellation ends a worker."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from overlay_net.model.errors import Unavailable
from overlay_net.runtime.worker import Requeue, TerminalError, run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.runtime.conftest import Run


class Results:
    def __init__(self) -> None:
        self.seen: list[str] = []

        self.active = 0

    def reconcile_started(self, name: str) -> None:
        self.active += 1

    def reconcile_finished(self, name: str) -> None:
        self.active -= 1

    def reconciled(self, name: str, result: str, seconds: float) -> None:
        self.seen.append(result)


async def work(
    reconcile: Callable[[str], Awaitable[Requeue | None]], *keys: str, seconds: float, workers: int = 2
) -> list[str]:
    """Run workers on ``keys`` for some virtual seconds; the results in their order."""
    queue, results = WorkQueue(), Results()
    for key in keys:
        queue.add(key)
    task = asyncio.create_task(run_workers("test", queue, reconcile, workers=workers, observer=results))
    await asyncio.sleep(seconds)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return results.seen


def test_waiting_is_not_failing(virtual_time: Run) -> None:
    async def main() -> None:
        times = []

        async def reconcile(_: str) -> Requeue | None:
            times.append(asyncio.get_running_loop().time())
            return Requeue(10) if len(times) < 4 else None

        assert await work(reconcile, "a", seconds=100) == ["requeue", "requeue", "requeue", "success"]
        assert times == [0, 10, 20, 30]

    virtual_time(main())


def test_any_exception_is_tried_again_later_and_later_and_disturbs_no_other_key(virtual_time: Run) -> None:
    async def main() -> None:
        times, fine = [], []

        async def reconcile(key: str) -> Requeue | None:
            if key == "good":
                fine.append(key)
                return None
            times.append(asyncio.get_running_loop().time())
            raise KeyError("a bug")

        await work(reconcile, "bad", "good", seconds=100, workers=1)
        assert fine == ["good"]
        gaps = [after - before for before, after in pairwise(times)]
        assert len(gaps) >= 6
        assert gaps[-1] > 10 * gaps[0]

    virtual_time(main())


def test_an_unavailable_server_is_left_alone_for_as_long_as_it_asks(virtual_time: Run) -> None:
    async def main() -> None:
        times = []

        async def reconcile(_: str) -> Requeue | None:
            times.append(asyncio.get_running_loop().time())
            if len(times) == 1:
                raise Unavailable("busy", retry_after=42)
            return None

        await work(reconcile, "a", seconds=100)
        assert times[1] >= 42

    virtual_time(main())


def test_what_cannot_be_helped_waits_for_a_change(virtual_time: Run) -> None:
    async def main() -> None:
        async def reconcile(_: str) -> Requeue | None:
            raise TerminalError("the spec makes no sense")

        assert await work(reconcile, "a", seconds=1000) == ["terminal"]

    virtual_time(main())


def test_keys_are_worked_on_at_the_same_time_but_never_one_key_twice(virtual_time: Run) -> None:
    async def main() -> None:
        running: list[str] = []
        most = 0

        async def reconcile(key: str) -> Requeue | None:
            nonlocal most
            assert key not in running
            running.append(key)
            most = max(most, len(running))
            await asyncio.sleep(1)
            running.remove(key)
            return Requeue(0.1)

        await work(reconcile, "a", "b", "c", "d", seconds=20, workers=3)
        assert most == 3

    virtual_time(main())
