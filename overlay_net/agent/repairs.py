"""When the agent reacts to a change of the kernel: at once, and later while another process keeps reverting it."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from overlay_net.domain.kernel.repair_damping import RepairDamping

log = logging.getLogger(__name__)

SETTLE: Final = 0.001
"""Seconds in which the events of one change are collected: a link that goes down announces itself several times."""


class Repairs:
    """``wake_after`` starts a reconciliation after so many seconds, unless one is due earlier; ``clock``: monotonic."""

    def __init__(self, wake_after: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._wake_after = wake_after
        self._clock = clock
        self._damping = RepairDamping()

    def schedule(self) -> None:
        """The kernel was changed by another process."""
        self._wake_after(SETTLE + self._damping.pause(self._clock()))

    def record(self, action: Mapping[str, object]) -> None:
        """The kernel was changed by this agent; ``action``: the log fields of its last change."""
        now = self._clock()
        was_immediate = not self._damping.pause(now)
        self._damping = self._damping.record(now)
        delay = self._damping.pause(now)
        if was_immediate and delay:
            log.warning(
                "another process keeps reverting our changes; backing off", extra={**action, "delay_seconds": delay}
            )
