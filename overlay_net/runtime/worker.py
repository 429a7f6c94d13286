"""Workers take keys from a queue and reconcile them; the result decides when a key is reconciled again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from overlay_net.model.errors import OverlayNetError, Unavailable
from overlay_net.runtime.workqueue import WorkQueue

log = logging.getLogger(__name__)

Result: TypeAlias = Literal["success", "requeue", "error"]


@dataclass(frozen=True, slots=True)
class Requeue:
    """Reconcile the key again after this many seconds, or after its backoff if None. Not counted as an error."""

    after: float | None = None


class Observer(Protocol):
    def reconcile_started(self) -> None: ...
    def observe_reconcile(self, name: str, result: Result, seconds: float) -> None: ...


Reconcile: TypeAlias = Callable[[str], Awaitable[Requeue | None]]


async def run_workers(
    name: str, queue: WorkQueue, reconcile: Reconcile, *, workers: int, observer: Observer | None = None
) -> None:
    """Run ``workers`` workers until cancelled. No exception of a reconciliation ends a worker."""
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_work(name, queue, reconcile, observer))


async def _work(name: str, queue: WorkQueue, reconcile: Reconcile, observer: Observer | None) -> None:
    loop = asyncio.get_running_loop()
    while True:
        key = await queue.get()
        began = loop.time()
        if observer is not None:
            observer.reconcile_started()
        try:
            result = await _reconcile(name, queue, reconcile, key)
        finally:
            queue.done(key)
        if observer is not None:
            observer.observe_reconcile(name, result, loop.time() - began)


async def _reconcile(name: str, queue: WorkQueue, reconcile: Reconcile, key: str) -> Result:
    try:
        again = await reconcile(key)
    except OverlayNetError as error:
        delay = queue.retry(key, at_least=error.retry_after if isinstance(error, Unavailable) else None)
        log.warning("reconcile failed", extra=_fields(name, key, delay) | {"error": str(error)})
        return "error"
    except Exception:
        delay = queue.retry(key)
        log.exception("reconcile failed unexpectedly", extra=_fields(name, key, delay))
        return "error"
    if again is not None and again.after is None:
        queue.retry(key)
        return "requeue"
    queue.forget(key)
    if again is None or again.after is None:
        return "success"
    queue.add_after(key, again.after)
    return "requeue"


def _fields(name: str, key: str, delay: float) -> dict[str, str]:
    return {"controller": name, "key": key, "retry_in": f"{delay:.1f}s"}
