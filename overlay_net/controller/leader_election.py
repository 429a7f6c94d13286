"""Of several controllers one leads; what happens when it begins to, when it ends, and when it loses the lease."""

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
    """None where there is no election. Raises ConfigurationError."""
    if not settings.enabled:
        observer.set_leader(settings.lease_name, True)
        return None
    if not settings.namespace:
        raise ConfigurationError(
            "leader_election.namespace: missing; set it, or POD_NAMESPACE, or leader_election.enabled: false for a "
            "controller that is always alone"
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
    """Open as long as this process leads; entered once it does. Everything that writes must have ended at its end."""
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
        log.error("%s; this process ends, so that another one may lead", error)
        # At once: whatever else runs here, threads too, must not hold up the end. No clean-up is owed.
        os._exit(EXIT_LOST)
