"""Leader election on a Lease: of several processes one works, and what it writes it writes while the lease is its own.

How long a lease is valid is told by this process's own clock only, which counts while the machine sleeps: a holder
counts from the moment *before* it asked to renew, everybody else from the moment when they saw the record change. So no
clock of another machine is believed, and no answer that came late makes a lease longer.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn, Protocol

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, Conflict, NotFound, NotLeader, OverlayNetError
from overlay_net.model.lease import LeaseRecord, LeaseTimes
from overlay_net.model.names import LEASES, Resource

log = logging.getLogger(__name__)

JITTER = 0.2
"""Share by which a pause is longer or shorter: processes that began together do not stay in step."""


class LeaseApi(Protocol):
    """The verbs of the Kubernetes API that an election needs; their errors are those of model.errors."""

    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> JsonObject: ...
    async def create(self, resource: Resource, body: JsonObject, *, namespace: str | None = None) -> JsonObject: ...
    async def update(
        self, resource: Resource, name: str, body: JsonObject, *, namespace: str | None = None
    ) -> JsonObject: ...


class Observer(Protocol):
    def set_leader(self, name: str, is_leader: bool) -> None: ...


class LeadershipLost(Exception):
    """Another process may lead from now on: this one must end without another write."""


def boot_time() -> float:
    """Seconds that never go back, and that go on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """``identity`` must be of this process only: a name that is used again after a restart would inherit its lease."""

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
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._times = times
        self._observer = observer
        self._clock = clock
        self._now = now
        self._seen: JsonObject = {}
        """The object as it was last read or written."""
        self._changed_at = 0.0
        """When its record was first seen as it is."""
        self._renewed_at = float("-inf")
        self._complaint = ""
        observer.set_leader(name, False)

    @property
    def has_read_lease(self) -> bool:
        """Whether the lease could be read or made at all."""
        return bool(self._seen)

    def remaining(self) -> float:
        """Seconds that a write which begins now may take, until another process may lead.

        Raises NotLeader from the renew deadline on: what is left of the lease then is the margin for writes under way.
        """
        if self._renewable() <= 0:
            raise NotLeader(f"nothing is written: the lease {self._namespace}/{self._name} is not held")
        return self._renewed_at + self._times.duration - self._clock()

    async def acquire(self) -> None:
        """Wait until this process leads."""
        while True:
            try:
                async with asyncio.timeout(self._call_timeout):
                    taken = await self._take()
            except (OverlayNetError, TimeoutError) as error:
                self._complain(error)
            else:
                self._complaint = ""
                if taken and self._renewable() > 0:
                    log.info("leads", extra={"lease": f"{self._namespace}/{self._name}", "identity": self._identity})
                    self._observer.set_leader(self._name, True)
                    return
            await asyncio.sleep(self._pause())

    async def keep(self) -> NoReturn:
        """Renew the lease for as long as that goes well. Raises LeadershipLost."""
        while True:
            await asyncio.sleep(min(self._pause(), max(0.0, self._renewable())))
            left = self._renewable()
            if left <= 0:
                raise self._lost(self._complaint or "this process stood still")
            try:
                async with asyncio.timeout(min(left, self._call_timeout)):
                    await self._renew()
            except (OverlayNetError, TimeoutError) as error:
                self._complain(error)
            else:
                self._complaint = ""

    async def release(self) -> None:
        """Give the lease up, so that another process need not wait for its end; nothing may be written any more.

        A failure is no error: the lease then ends by itself.
        """
        if self._renewable() <= 0:
            return
        try:
            async with asyncio.timeout(self._call_timeout):
                await self._give_up()
        except (OverlayNetError, TimeoutError) as error:
            log.warning("the lease was not given up, and ends by itself: %s", _words(error))
        else:
            log.info("gave up the lease", extra={"lease": f"{self._namespace}/{self._name}"})

    # --- One try each ---------------------------------------------------------------------------------------------

    async def _take(self) -> bool:
        """Whether the lease is ours now."""
        began = self._clock()
        try:
            await self._read()
        except NotFound:
            spec = LeaseRecord().held_by(self._identity, self._times.duration, self._now()).to_json()
            body = LEASES.manifest(self._name, namespace=self._namespace, spec=spec)
            try:
                self._see(await self._api.create(LEASES, body, namespace=self._namespace))
            except AlreadyExists:
                return False
            self._renewed_at = began
            return True
        record = LeaseRecord.parse(self._seen)
        if record.holder not in ("", self._identity):
            # What its holder promised to live by, where that can be read.
            valid = record.seconds if record.seconds > 0 else self._times.duration
            if self._clock() < self._changed_at + valid:
                return False
        try:
            await self._write(self._identity)
        except Conflict:
            # Another process was faster.
            return False
        return True

    async def _renew(self) -> None:
        try:
            await self._write(self._identity)
        except (Conflict, NotFound):
            # Somebody has written into the object, or deleted it, or the answer to a renewal was lost.
            try:
                await self._read()
            except NotFound:
                raise self._lost("somebody deleted it") from None
            holder = LeaseRecord.parse(self._seen).holder
            if holder != self._identity:
                raise self._lost(f"{holder or 'nobody'} holds it now") from None
            await self._write(self._identity)

    async def _give_up(self) -> None:
        self._renewed_at = float("-inf")
        self._observer.set_leader(self._name, False)
        try:
            await self._write("")
        except Conflict:
            await self._read()
            if LeaseRecord.parse(self._seen).holder == self._identity:
                await self._write("")

    async def _read(self) -> None:
        self._see(await self._api.get(LEASES, self._name, namespace=self._namespace))

    async def _write(self, holder: str) -> None:
        """The record with ``holder``, if nobody has written since it was seen. Raises Conflict, NotFound."""
        began = self._clock()
        record = LeaseRecord.parse(self._seen).held_by(holder, self._times.duration, self._now())
        spec = {**self._seen.get("spec", {}), **record.to_json()}
        self._see(await self._api.update(LEASES, self._name, self._seen | {"spec": spec}, namespace=self._namespace))
        if holder:
            self._renewed_at = began

    def _see(self, raw: JsonObject) -> None:
        if not self._seen or LeaseRecord.parse(raw) != LeaseRecord.parse(self._seen):
            self._changed_at = self._clock()
        self._seen = raw

    # --- Times and words ------------------------------------------------------------------------------------------

    @property
    def _call_timeout(self) -> float:
        """Two tries before the renew deadline, however silent the API server is."""
        return self._times.renew_deadline / 2

    def _renewable(self) -> float:
        """Seconds until the renew deadline."""
        return self._renewed_at + self._times.renew_deadline - self._clock()

    def _pause(self) -> float:
        return self._times.retry_period * random.uniform(1 - JITTER, 1 + JITTER)

    def _lost(self, why: str) -> LeadershipLost:
        self._renewed_at = float("-inf")
        self._observer.set_leader(self._name, False)
        return LeadershipLost(f"lost the lease {self._namespace}/{self._name}: {why}")

    def _complain(self, error: Exception) -> None:
        complaint = _words(error)
        if complaint != self._complaint:
            log.warning("the lease %s/%s: %s", self._namespace, self._name, complaint)
            self._complaint = complaint


def _words(error: Exception) -> str:
    return str(error) or "the API server gave no answer"
