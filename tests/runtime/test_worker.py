"""Workers: the result of a reconciliation decides when its key is reconciled again; only cancellation ends a worker."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from overlay_net.model.errors import Unavailable
from overlay_net.runtime.worker import Requeue, run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.runtime.conftest import Run


class Observer:
    def __init__(self) -> None:
        self.results: list[str] = []

    def reconcile_started(self) -> None:
        pass

    def observe_reconcile(self, name: str, result: str, seconds: float) -> None:
        self.results.append(result)


async def work(
    reconcile: Callable[[str], Awaitable[Requeue | None]], *keys: str, seconds: float, workers: int = 2
) -> list[str]:
    """Run workers on ``keys`` for some virtual seconds; the results in order."""
    queue, observer = WorkQueue(), Observer()
    for key in keys:
        queue.add(key)
    task = asyncio.create_task(run_workers("test", queue, reconcile, workers=workers, observer=observer))
    await asyncio.sleep(seconds)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return observer.results


def test_a_requeue_is_no_error_and_waits_exactly_as_long_as_requested(virtual_time: Run) -> None:
    async def main() -> None:
        times = []

        async def reconcile(_: str) -> Requeue | None:
            times.append(asyncio.get_running_loop().time())
            return Requeue(10) if len(times) < 4 else None

        assert await work(reconcile, "a", seconds=100) == ["requeue", "requeue", "requeue", "success"]
        assert times == [0, 10, 20, 30]

    virtual_time(main())


def test_exceptions_are_retried_with_backoff_and_do_not_affect_other_keys(virtual_time: Run) -> None:
    async def main() -> None:
        times, succeeded = [], []

        async def reconcile(key: str) -> Requeue | None:
            if key == "good":
                succeeded.append(key)
                return None
            times.append(asyncio.get_running_loop().time())
            raise KeyError("a bug")

        await work(reconcile, "bad", "good", seconds=100, workers=1)
        assert succeeded == ["good"]
        gaps = [after - before for before, after in pairwise(times)]
        assert len(gaps) >= 6
        assert gaps[-1] > 10 * gaps[0]

    virtual_time(main())


def test_retry_after_of_an_unavailable_server_is_respected(virtual_time: Run) -> None:
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


def test_keys_are_reconciled_concurrently_but_never_one_key_twice(virtual_time: Run) -> None:
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
