"""Reads the protected subnets that no watched object has: services, API servers, pods, phpIPAM."""

import asyncio
import logging
import random
from collections.abc import Mapping
from datetime import timedelta

from overlay_net.adapters.kube.cluster_networks import Read
from overlay_net.controller.protected_by_objects import ProtectedByObjects
from overlay_net.model.errors import Expired, OverlayNetError, Unavailable
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.runtime.backoff import Backoff

log = logging.getLogger(__name__)

REFRESH = timedelta(minutes=5)
REFRESH_UNKNOWN = timedelta(seconds=10)
"""How often to read while a source has never been read."""


class ProtectedSubnets:
    """A source that cannot be read keeps its last result; until its first one, no StaticRoute is added to a node."""

    def __init__(
        self,
        protected: ProtectedByObjects,
        sources: Mapping[str, Read],
        metrics: ControllerMetrics,
        backoff: Backoff | None = None,
    ) -> None:
        self._protected = protected
        self._sources = sources
        self._metrics = metrics
        self._backoff = backoff or Backoff(base=0.5, cap=8)
        self._unread = dict.fromkeys(sources, "not read yet")
        """Why a source has never been read."""
        self._failures: dict[str, OverlayNetError | OSError] = {}

    async def read(self) -> None:
        """Read every source, and again until the API server has answered for each, if only to refuse."""
        attempts = 0
        await self.refresh()
        while unavailable := [each for each in self._failures.values() if isinstance(each, Unavailable | Expired)]:
            attempts += 1
            requested = [each.retry_after or 0.0 for each in unavailable if isinstance(each, Unavailable)]
            await asyncio.sleep(self._backoff.delay(attempts, at_least=max(requested, default=None)))
            await self.refresh()

    async def follow(self) -> None:
        """Refresh periodically until cancelled."""
        while True:
            interval = REFRESH_UNKNOWN if self._unread else REFRESH
            await asyncio.sleep(interval.total_seconds() * random.uniform(0.9, 1.1))
            await self.refresh()

    async def refresh(self) -> None:
        """Read every source once."""
        for source, read in self._sources.items():
            try:
                found = tuple(await read())
            except (OverlayNetError, OSError) as error:
                self._failed(source, error)
            else:
                self._unread.pop(source, None)
                self._failures.pop(source, None)
                self._protected.protect(source, found)
            self._metrics.set_protection_source(source, up=source not in self._failures)
        problems = [f"{source}: {problem}" for source, problem in self._unread.items()]
        self._protected.set_unknown(
            "; ".join(problems) and f"not all protected subnets are known: {'; '.join(problems)}"
        )

    def _failed(self, source: str, error: OverlayNetError | OSError) -> None:
        if str(self._failures.get(source)) != str(error):
            log.warning(
                "cannot read protected subnets",
                extra={"source": source, "error": str(error), "kept": "nothing" if source in self._unread else "last"},
            )
        self._failures[source] = error
        if source in self._unread:
            self._unread[source] = error.message if isinstance(error, OverlayNetError) else str(error)
