"""Leader election of the controller: becoming leader, stepping down, and losing the lease."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from overlay_net.model.errors import ConfigurationError
from overlay_net.model.lease import LeaseTimes
from overlay_net.runtime.leader import Elector, LeadershipLost, Observer
from overlay_net.runtime.lease_lock import LeaseApi
from overlay_net.settings import LeaderElectionSettings

log = logging.getLogger(__name__)

EXIT_LOST = 1


def make_elector(settings: LeaderElectionSettings, api: LeaseApi, observer: Observer) -> Elector | None:
    """Create an elector, or None if leader election is disabled. Raises ConfigurationError."""
    if not settings.enabled:
        observer.set_leader(settings.lease_name, True)
        return None
    if not settings.namespace:
        raise ConfigurationError(
            "leader_election.namespace: missing; set it, or POD_NAMESPACE, or leader_election.enabled: false for a "
            "single replica"
        )
    times = LeaseTimes(
        settings.lease_duration.total_seconds(),
        settings.renew_deadline.total_seconds(),
        settings.retry_period.total_seconds(),
    )
    identity = f"{settings.identity or socket.gethostname()}_{secrets.token_hex(4)}"
    return Elector(api, settings.namespace, settings.lease_name, identity, times, observer)


@asynccontextmanager
async def leadership(elector: Elector | None) -> AsyncIterator[None]:
    """Enter the context once this process is the leader; all writers must have ended before it is left."""
    if elector is None:
        yield
        return
    await elector.acquire()
    keeping = asyncio.ensure_future(_keep(elector))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await elector.release()


async def _keep(elector: Elector) -> NoReturn:
    try:
        await elector.hold()
    except LeadershipLost as error:
        log.error("lost the lease; exiting", extra={"error": str(error)})
        # Exit at once: no task or thread may delay it, and nothing needs to be cleaned up.
        os._exit(EXIT_LOST)
