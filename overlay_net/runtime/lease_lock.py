"""A Lease as a lock: acquired and renewed by writes that fail if another process has written in between.

Its validity is measured only with the clock of this process, which also runs while the machine is suspended. The holder
counts from the time *before* its request, other processes from the time they observed the change. Therefore the clocks
of other machines do not matter, and a late response does not extend a lease.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, Conflict, NotFound
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import LEASES, Resource


class LeaseApi(Protocol):
    """The verbs of the Kubernetes API that a lock needs; they raise the errors of model.errors."""

    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> JsonObject: ...
    async def create(self, resource: Resource, body: JsonObject, *, namespace: str | None = None) -> JsonObject: ...
    async def update(
        self, resource: Resource, name: str, body: JsonObject, *, namespace: str | None = None
    ) -> JsonObject: ...


class LeaseLock:
    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        name: str,
        identity: str,
        duration: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._clock = clock
        self._now = now
        self._observed: JsonObject = {}
        """The object as last read or written."""
        self._changed_at = 0.0
        """When the current record was first observed."""
        self.renewed_at = float("-inf")
        """When the last successful request to acquire or renew the lease started."""

    def __str__(self) -> str:
        return f"{self._namespace}/{self._name}"

    @property
    def holder(self) -> str:
        """Identity of the holder as last observed; empty if there is none."""
        return LeaseRecord.parse(self._observed).holder

    async def try_acquire(self) -> bool:
        """Acquire the lease unless another process holds it. Raises the errors of model.errors."""
        try:
            await self.read()
        except NotFound:
            return await self._create()
        if self._is_held_by_other():
            return False
        try:
            await self.write(self._identity)
        except Conflict:
            # Another process acquired it first.
            return False
        return True

    async def _create(self) -> bool:
        began = self._clock()
        spec = LeaseRecord().held_by(self._identity, self._duration, self._now()).to_json()
        body = LEASES.manifest(self._name, namespace=self._namespace, spec=spec)
        try:
            self._observe(await self._api.create(LEASES, body, namespace=self._namespace))
        except AlreadyExists:
            return False
        self.renewed_at = began
        return True

    def _is_held_by_other(self) -> bool:
        record = LeaseRecord.parse(self._observed)
        if record.holder in ("", self._identity):
            return False
        # The duration set by the holder, if it is valid.
        duration = record.seconds if record.seconds > 0 else self._duration
        return self._clock() < self._changed_at + duration

    async def read(self) -> None:
        self._observe(await self._api.get(LEASES, self._name, namespace=self._namespace))

    async def write(self, holder: str) -> None:
        """Write the record with ``holder``. Raises Conflict if it was changed since it was read, and NotFound."""
        began = self._clock()
        record = LeaseRecord.parse(self._observed).held_by(holder, self._duration, self._now())
        spec = {**self._observed.get("spec", {}), **record.to_json()}
        body = self._observed | {"spec": spec}
        self._observe(await self._api.update(LEASES, self._name, body, namespace=self._namespace))
        if holder:
            self.renewed_at = began

    def _observe(self, raw: JsonObject) -> None:
        if not self._observed or LeaseRecord.parse(raw) != LeaseRecord.parse(self._observed):
            self._changed_at = self._clock()
        self._observed = raw
