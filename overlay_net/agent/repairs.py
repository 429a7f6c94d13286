"""Schedules repairs of the kernel: at once, or delayed while another process keeps reverting our changes."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from overlay_net.domain.kernel.repair_damping import RepairDamping
from overlay_net.domain.kernel.wake_pacing import WakePacing

log = logging.getLogger(__name__)

SETTLE: Final = 0.001
"""Seconds for which the events of one change are collected: a link that goes down sends several notifications."""


class Repairs:
    """``wake_after`` schedules a reconciliation after a delay unless one is due earlier; ``clock`` is monotonic."""

    def __init__(self, wake_after: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._wake_after = wake_after
        self._clock = clock
        self._damping = RepairDamping()
        self._pacing = WakePacing()

    def schedule(self) -> None:
        """Schedule a reconciliation because another process changed the kernel."""
        self._wake_after(SETTLE + self._damping.pause(self._clock()))

    def schedule_for_foreign_route(self) -> None:
        """Schedule a reconciliation because a route that ours depend on changed; a flapping one causes few of them."""
        now = self._clock()
        self._pacing = self._pacing.request(now)
        self._wake_after(SETTLE + max(self._damping.pause(now), self._pacing.due - now))

    def record(self, action: Mapping[str, object]) -> None:
        """Count a repair by this agent; ``action`` has the log fields of the last change."""
        now = self._clock()
        was_immediate = not self._damping.pause(now)
        self._damping = self._damping.record(now)
        delay = self._damping.pause(now)
        if was_immediate and delay:
            log.warning(
                "another process keeps reverting our changes; backing off", extra={**action, "delay_seconds": delay}
            )
