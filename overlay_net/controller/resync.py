"""A slow resync: everything is reconciled again from time to time, in case an event was missed."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import SLICES, SUBNET_MAP, Queues
from overlay_net.runtime.turns import in_turns


async def resync(caches: Caches, queues: Queues, interval: timedelta, compare_statuses: Callable[[], None]) -> None:
    """Enqueue every key once per interval, until cancelled. ``compare_statuses`` does so for StaticRoutes.

    The keys are spread over the last tenth of the interval, as reconciling thousands of nodes takes seconds.
    """
    seconds = interval.total_seconds()
    while True:
        await asyncio.sleep(0.9 * seconds)
        spread = seconds / 10
        async for name in in_turns({*caches.nodes.names(), *caches.overlays.names()}):
            queues.nodes.add_after(name, random.uniform(0, spread))
        async for name in in_turns(caches.pools.names()):
            queues.pools.add_after(name, random.uniform(0, spread))
        queues.slices.add_after(SLICES, spread)
        compare_statuses()
        queues.subnet_map.add_after(SUBNET_MAP, spread)
        await asyncio.sleep(spread)
