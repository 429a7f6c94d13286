"""Waits while another agent manages this network namespace: two with different settings would revert each other."""

import logging
from collections.abc import Callable
from typing import Final

from overlay_net.adapters.namespace_lock import Holder, NamespaceLock

log = logging.getLogger(__name__)

OVERLAP: Final = 60.0
"""Seconds for which a waiting agent counts as ready: in a rolling update with ``maxSurge``, the previous agent is ended
only when the next one is ready. Longer than the 30 s in which a pod has to end."""

UNKNOWN_TRIES: Final = 20
"""Attempts after which a socket of the name that does not listen is taken for that of another process."""


class Standby:
    """``clock`` is monotonic."""

    def __init__(self, lock: NamespaceLock, clock: Callable[[], float]) -> None:
        self._lock = lock
        self._clock = clock
        self._since: float | None = None

    @property
    def waiting(self) -> bool:
        return self._since is not None

    @property
    def problem(self) -> str:
        """Return why this agent does nothing, or an empty string if it is not waiting, or only for a moment."""
        overdue = self._since is not None and self._clock() - self._since >= OVERLAP
        return "another agent manages this node; stop one of the two" if overdue else ""

    async def wait(self) -> None:
        """Wait until this process holds the lock, or another process has taken its name."""
        unknown = 0
        while (holder := self._lock.acquire()) is not None:
            unknown = unknown + 1 if holder.uid is None else 0
            if unknown == UNKNOWN_TRIES or (not unknown and not holder.is_trusted):
                log.warning("another process has the name of the lock; ignoring it", extra=_fields(holder))
                break
            if not unknown:
                self._begin(holder)
            await self._lock.wait_for_release()
        if self._since is not None:
            log.info("the other agent has ended", extra={"seconds": round(self._clock() - self._since, 1)})
            self._since = None

    def _begin(self, holder: Holder) -> None:
        if self._since is None:
            self._since = self._clock()
            log.warning("another agent manages this node; waiting until it ends", extra=_fields(holder))


def _fields(holder: Holder) -> dict[str, int]:
    return {key: value for key, value in (("pid", holder.pid), ("uid", holder.uid)) if value is not None}
