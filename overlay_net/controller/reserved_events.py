"""One event and one log line for all nodes that get their first address from a pool in a few seconds."""

import asyncio
import logging

from overlay_net.domain.status.events import reserved_event
from overlay_net.model.names import OVERLAY_POOLS
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.store import Store

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds from the first node to the event."""


class ReservedEvents:
    """``add`` notes a node; the event follows by itself."""

    def __init__(self, events: EventRecorder, pools: Store[Pool]) -> None:
        self._events = events
        self._pools = pools
        self._waiting: dict[str, dict[str, IpAddress]] = {}
        """The nodes and their addresses by pool."""

    def add(self, pool: str, node: str, address: IpAddress) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(INTERVAL, self._emit)
        self._waiting.setdefault(pool, {})[node] = address

    def _emit(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for name, addresses in waiting.items():
            event, pool = reserved_event(addresses), self._pools.get(name)
            log.info("addresses reserved", extra={"pool": name, "nodes": len(addresses)})
            if pool is not None:
                self._events.emit(OVERLAY_POOLS, name, pool.uid, event.reason, event.message, warning=event.warning)
