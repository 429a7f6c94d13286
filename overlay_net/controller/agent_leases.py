"""Reads the Leases of the agents about once a minute, page by page; wakes the nodes whose agent is silent or back."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.domain.allocation.agent_silence import Silence, has_reported, observe_leases
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import LEASES
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_name

log = logging.getLogger(__name__)

INTERVAL = 60.0
"""Seconds between two reads. A longer time between two of them counts as this: Leases could not be renewed either."""


class AgentLeases:
    """``wake`` is called with the name of each node whose agent has become silent, or is back."""

    def __init__(
        self,
        api: KubeApi,
        caches: Caches,
        namespace: str,
        stale_after: timedelta,
        wake: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._caches = caches
        self._namespace = namespace
        self._stale_after = stale_after
        self._wake = wake
        self._clock = clock
        self._silences: dict[str, Silence] = {}
        self._read_at: float | None = None
        caches.overlays.subscribe(self._overlay_changed)

    async def run(self) -> None:
        """Read the Leases until cancelled. A failed read changes nothing."""
        if not self._namespace or not self._stale_after:
            return
        while True:
            try:
                await self.read()
            except OverlayNetError as error:
                log.warning("cannot read the leases of the agents", extra={"error": str(error)})
            await asyncio.sleep(INTERVAL * random.uniform(0.9, 1))

    async def read(self) -> None:
        """Read all Leases once, if any agent renews one. Raises ApiError."""
        # An agent without a Lease is one of an earlier version, or is not allowed to write one.
        names = [overlay.name for overlay in self._caches.overlays.values() if overlay.report.lease]
        renewed = await self._list() if names else {}
        now = self._clock()
        elapsed = min(now - self._read_at, INTERVAL) if self._read_at is not None else 0.0
        self._read_at = now
        self._silences = dict(observe_leases(self._silences, names, renewed, elapsed))
        self._publish()

    async def _list(self) -> Mapping[str, str]:
        renewed = {}
        async for page in self._api.pages(LEASES, namespace=self._namespace):
            for item in page.items:
                renewed[find_name(item)] = LeaseRecord.parse(item).renewed
        return renewed

    def _publish(self) -> None:
        limit = self._stale_after.total_seconds()
        before = self._caches.silent_agents
        silent = {name: self._stale_after for name, each in self._silences.items() if each.seconds >= limit}
        self._caches.silent_agents = silent
        for name in before.keys() ^ silent.keys():
            self._wake(name)

    def _overlay_changed(self, name: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        known = self._silences.get(name)
        if known is not None and new is not None and has_reported(old, new):
            self._silences[name] = Silence(known.renewed)
            if self._caches.silent_agents.pop(name, None) is not None:
                self._wake(name)
