"""Leader election of the controller: becoming leader, stepping down, and losing a lease.

A leader holds two Leases: that of its release, among replicas, and then that of the cluster, among releases. The
identity in the second is that of the release, so a replica takes it over without waiting; it is only written by the
holder of the first.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NoReturn, Protocol

from overlay_net.model.errors import ConfigurationError
from overlay_net.model.lease import LeaseTimes
from overlay_net.runtime import cluster_lock
from overlay_net.runtime.leader import Elector, LeadershipLost, boot_time
from overlay_net.runtime.lease_lock import LeaseApi
from overlay_net.settings.sections import LeaderElectionSettings

log = logging.getLogger(__name__)

EXIT_LOST = 1
LOG_INTERVAL = 300.0
"""Seconds between two log lines that another release manages the cluster."""


class Observer(Protocol):
    def set_leader(self, name: str, is_leader: bool) -> None: ...
    def set_standby_release(self, is_standby: bool) -> None: ...


def release_identity(settings: LeaderElectionSettings) -> str:
    """Return what identifies the release of this process: the namespace and name of the Lease of its replicas."""
    return f"{settings.namespace or _host(settings)}/{settings.lease_name}"


def make_leadership(
    settings: LeaderElectionSettings, api: LeaseApi, observer: Observer, clock: Callable[[], float] = boot_time
) -> "Leadership":
    """Raises ConfigurationError."""
    if settings.enabled and not settings.namespace:
        raise ConfigurationError(
            "leader_election.namespace: missing; set it, or POD_NAMESPACE, or leader_election.enabled: false for a "
            "single replica"
        )
    times = LeaseTimes(
        settings.lease_duration.total_seconds(),
        settings.renew_deadline.total_seconds(),
        settings.retry_period.total_seconds(),
    )
    status = _Status(settings.lease_name, observer)
    release = None
    if settings.enabled:
        identity = f"{_host(settings)}_{secrets.token_hex(4)}"
        release = Elector(api, settings.namespace, settings.lease_name, identity, times, status.add(), clock)
    cluster_times = cluster_lock.cluster_lock_times(settings.cluster_lease_duration.total_seconds(), times)
    cluster = Elector(
        api,
        cluster_lock.NAMESPACE,
        cluster_lock.NAME,
        release_identity(settings),
        cluster_times,
        status.add(),
        clock,
    )
    return Leadership(release, cluster, observer)


def _host(settings: LeaderElectionSettings) -> str:
    return settings.identity or socket.gethostname()


class Leadership:
    """The locks of one process. ``release`` is None if leader election among replicas is disabled."""

    def __init__(self, release: Elector | None, cluster: Elector, observer: Observer) -> None:
        self._release = release
        self._cluster = cluster
        self._observer = observer
        self._manager = ""
        """The other release that manages the cluster."""
        self._log_again = 0.0

    def remaining(self) -> float:
        """Return the seconds until another process may become leader, as `Elector.remaining`. Raises NotLeader."""
        return min(each.remaining() for each in self._electors)

    def unready(self) -> str:
        """Return why this process could not take over, or an empty string. A standby of the leader is ready."""
        for each in self._electors:
            if not each.has_read_lease:
                return f"waiting for the first read of lease {each}"
        if self._manager:
            return f"release {self._manager} manages this cluster (lease {self._cluster}); this release is on standby"
        return ""

    @asynccontextmanager
    async def hold(self, is_complete: Callable[[], bool]) -> AsyncIterator[None]:
        """Enter the context once this process is the leader; all writers must have ended before it is left.

        The cluster is given up only if ``is_complete`` at the end: a restart must not hand it over to another release.
        """
        # Also on standby, so that an update to a version without permission stops before the leader is terminated.
        await self._cluster.wait_readable()
        async with AsyncExitStack() as stack:
            if self._release is not None:
                await self._release.acquire()
                await stack.enter_async_context(_renewed(self._release, lambda: True))
            await self._cluster.acquire(self._stand_by)
            self._set_manager("")
            await stack.enter_async_context(_renewed(self._cluster, is_complete))
            yield

    def _stand_by(self, manager: str) -> None:
        now = asyncio.get_running_loop().time()
        if manager != self._manager or now >= self._log_again:
            self._log_again = now + LOG_INTERVAL
            log.warning(
                "another release manages this cluster; this release is on standby",
                extra={"release": manager, "lease": str(self._cluster)},
            )
        self._set_manager(manager)

    def _set_manager(self, manager: str) -> None:
        self._manager = manager
        self._observer.set_standby_release(bool(manager))

    @property
    def _electors(self) -> tuple[Elector, ...]:
        return (self._cluster,) if self._release is None else (self._release, self._cluster)


class _Status:
    """Reports this process as leader while it holds every lock."""

    def __init__(self, name: str, observer: Observer) -> None:
        self._name = name
        self._observer = observer
        self._locks: list[_LockStatus] = []

    def add(self) -> "_LockStatus":
        lock = _LockStatus(self.update)
        self._locks.append(lock)
        return lock

    def update(self) -> None:
        self._observer.set_leader(self._name, all(lock.is_held for lock in self._locks))


class _LockStatus:
    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.is_held = False

    def set_leader(self, name: str, is_leader: bool) -> None:
        self.is_held = is_leader
        self._changed()


@asynccontextmanager
async def _renewed(elector: Elector, is_released: Callable[[], bool]) -> AsyncIterator[None]:
    """Renew a lease that is held, and release it at the end if ``is_released`` then."""
    keeping = asyncio.ensure_future(_keep(elector))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        if is_released():
            await elector.release()


async def _keep(elector: Elector) -> NoReturn:
    try:
        await elector.hold()
    except LeadershipLost as error:
        log.error("lost the lease; exiting", extra={"error": str(error)})
    except Exception:
        # Nothing else would renew the lease, or notice that nothing does.
        log.exception("cannot renew the lease because of an unexpected error; exiting", extra={"lease": str(elector)})
    # A thread writes the line. Meanwhile the event loop has no turn, so nothing else is written.
    for handler in logging.getLogger().handlers:
        handler.flush()
    # Exit at once: no task or thread may delay it, and nothing needs to be cleaned up.
    os._exit(EXIT_LOST)
