"""Leader election: one of several processes holds the Lease, and only its holder may write."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NoReturn, Protocol

from overlay_net.model.errors import Conflict, NotFound, NotLeader, OverlayNetError
from overlay_net.model.lease import LeaseTimes
from overlay_net.runtime.lease_lock import LeaseApi, LeaseLock

log = logging.getLogger(__name__)

JITTER = 0.2
"""Fraction by which intervals vary, so that processes that started together do not stay in step."""


class Observer(Protocol):
    def set_leader(self, name: str, is_leader: bool) -> None: ...


class LeadershipLost(Exception):
    """Another process may become leader: this one must exit without another write."""


def boot_time() -> float:
    """Return monotonic seconds, including the time for which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """A process inherits a lease that was held with its ``identity``: without another lock, it must be unique to it."""

    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes,
        observer: Observer,
        clock: Callable[[], float] = boot_time,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._lock = LeaseLock(api, namespace, name, identity, times.duration, clock, now)
        self._name = name
        self._identity = identity
        self._times = times
        self._observer = observer
        self._clock = clock
        self._last_error = ""
        self.has_read_lease = False
        """Whether the lease has been read or created, or does not exist yet."""
        observer.set_leader(name, False)

    def __str__(self) -> str:
        return str(self._lock)

    def remaining(self) -> float:
        """Return the seconds until another process may become leader, as the limit for a write that starts now.

        Raises NotLeader after the renew deadline: the rest of the lease is reserved for writes in progress.
        """
        if self._until_deadline() <= 0:
            raise NotLeader(f"write rejected: the lease {self._lock} is not held")
        return self._lock.renewed_at + self._times.duration - self._clock()

    async def wait_readable(self) -> None:
        """Wait until the lease can be read, or it is known that it does not exist."""
        while True:
            if await self._attempt(self._read):
                return
            await asyncio.sleep(self._interval())

    async def acquire(self, waiting: Callable[[str], None] = lambda _: None) -> None:
        """Wait until this process is the leader. ``waiting`` is called with each holder that is observed meanwhile."""
        while True:
            if await self._attempt(self._lock.try_acquire) and self._until_deadline() > 0:
                break
            if not self._last_error and self._lock.holder not in ("", self._identity):
                waiting(self._lock.holder)
            await asyncio.sleep(self._interval())
        log.info("became leader", extra={"lease": str(self._lock), "identity": self._identity})
        self._observer.set_leader(self._name, True)

    async def hold(self) -> NoReturn:
        """Renew the lease periodically. Raises LeadershipLost."""
        while True:
            await asyncio.sleep(min(self._interval(), max(0.0, self._until_deadline())))
            left = self._until_deadline()
            if left <= 0:
                raise self._lost(self._last_error or "this process was paused")
            try:
                async with asyncio.timeout(min(left, self._call_timeout)):
                    await self._renew()
            except (OverlayNetError, TimeoutError) as error:
                self._log_error(error)
            else:
                self._last_error = ""

    async def release(self) -> None:
        """Release the lease, so that another process need not wait until it expires. No write is allowed afterwards.

        A failure is only logged, because the lease expires anyway.
        """
        if self._until_deadline() <= 0:
            return
        try:
            async with asyncio.timeout(self._call_timeout):
                await self._release()
        except (OverlayNetError, TimeoutError) as error:
            log.warning(
                "cannot release the lease; it will expire", extra={"lease": str(self._lock), "error": _text(error)}
            )
        else:
            log.info("released the lease", extra={"lease": str(self._lock)})

    async def _attempt(self, call: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(self._call_timeout):
                succeeded = await call()
        except (OverlayNetError, TimeoutError) as error:
            self._log_error(error)
            return False
        self._last_error = ""
        self.has_read_lease = True
        return succeeded

    async def _read(self) -> bool:
        with contextlib.suppress(NotFound):
            await self._lock.read()
        return True

    async def _renew(self) -> None:
        try:
            await self._lock.write(self._identity)
        except (Conflict, NotFound):
            # It was edited or deleted, or the response to an earlier renewal was lost.
            await self._check_holder()
            await self._lock.write(self._identity)

    async def _check_holder(self) -> None:
        """Raise LeadershipLost if the lease is deleted or has another holder."""
        try:
            await self._lock.read()
        except NotFound:
            raise self._lost("it was deleted") from None
        holder = self._lock.holder
        if holder != self._identity:
            raise self._lost(f"{holder or 'no process'} holds it now") from None

    async def _release(self) -> None:
        self._resign()
        try:
            await self._lock.write("")
        except Conflict:
            await self._lock.read()
            if self._lock.holder == self._identity:
                await self._lock.write("")

    def _lost(self, reason: str) -> LeadershipLost:
        self._resign()
        return LeadershipLost(f"lost the lease {self._lock}: {reason}")

    def _resign(self) -> None:
        """Reject all further writes of this process."""
        self._lock.renewed_at = float("-inf")
        self._observer.set_leader(self._name, False)

    @property
    def _call_timeout(self) -> float:
        """Timeout that allows two attempts before the renew deadline, even if the API server does not answer."""
        return self._times.renew_deadline / 2

    def _until_deadline(self) -> float:
        """Seconds until the renew deadline."""
        return self._lock.renewed_at + self._times.renew_deadline - self._clock()

    def _interval(self) -> float:
        return self._times.retry_period * random.uniform(1 - JITTER, 1 + JITTER)

    def _log_error(self, error: Exception) -> None:
        """Log each error once, not with every attempt."""
        text = _text(error)
        if text != self._last_error:
            log.warning("cannot acquire or renew the lease", extra={"lease": str(self._lock), "error": text})
            self._last_error = text


def _text(error: Exception) -> str:
    return str(error) or "the API server did not answer"
