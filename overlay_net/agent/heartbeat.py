"""Renews a Lease about once a minute, by which the controller finds out that this agent is running."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import OverlayNetError, Refused
from overlay_net.model.lease import micro_time
from overlay_net.model.names import AGENT_FIELD_MANAGER, LEASES, NODE_OVERLAY_IPS, Resource
from overlay_net.model.overlay import NodeOverlay

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0
"""Maximum number of seconds between two renewals."""

GRACE: Final = 60.0
"""Seconds that a reconciliation may take longer than the resync interval."""


class ApplyApi(Protocol):
    async def apply(
        self, resource: Resource, name: str, body: JsonObject, *, field_manager: str, namespace: str | None = None
    ) -> Any: ...


class Heartbeat:
    """``overlay`` returns the node's object; ``resync`` is the longest time in seconds between two reconciliations.

    ``changed`` is called when ``lease`` has changed.
    """

    def __init__(
        self,
        api: ApplyApi,
        namespace: str,
        node: str,
        overlay: Callable[[], NodeOverlay | None],
        resync: float,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._node = node
        self._overlay = overlay
        self._resync = resync
        self._clock = clock
        self._changed = changed
        self._reconciled_at = clock()
        self._lease: str | None = None if namespace else ""
        """None: not answered yet."""

    @property
    def lease(self) -> str:
        """Namespace and name of the Lease that this agent renews; empty: it may not, or there was no time yet.

        Until the first answer it is that of the last report, as the restart of an agent alone changes no object.
        """
        if self._lease is not None:
            return self._lease
        overlay = self._overlay()
        return overlay.report.lease if overlay is not None else ""

    def reconciled(self) -> None:
        """Record a complete reconciliation: an agent that only runs, and does nothing, must not renew its Lease."""
        self._reconciled_at = self._clock()

    async def run(self) -> None:
        """Renew the Lease until cancelled."""
        if not self._namespace:
            return
        while True:
            await self.renew()
            # The jitter spreads the renewals of agents that started together.
            await asyncio.sleep(INTERVAL * random.uniform(0.8, 1))

    async def renew(self) -> None:
        """Renew the Lease once, if the agent reconciles and its node has an object. A failure is only logged."""
        overlay = self._overlay()
        if overlay is None or self._clock() - self._reconciled_at > self._resync + GRACE:
            return
        try:
            await self._api.apply(
                LEASES,
                self._node,
                self._body(overlay),
                field_manager=AGENT_FIELD_MANAGER,
                namespace=self._namespace,
            )
        except Refused as error:
            log.warning("not allowed to renew the lease of this agent", extra={"error": str(error)})
            self._set_lease("")
        except OverlayNetError as error:
            log.info("the lease of this agent was not renewed", extra={"error": str(error)})
        else:
            self._set_lease(f"{self._namespace}/{self._node}")

    def _body(self, overlay: NodeOverlay) -> JsonObject:
        spec = {
            "holderIdentity": self._node,
            "leaseDurationSeconds": int(INTERVAL),
            "renewTime": micro_time(datetime.now(UTC)),
        }
        body = LEASES.manifest(self._node, namespace=self._namespace, spec=spec)
        # The garbage collector of Kubernetes deletes the Lease with the object.
        owner = {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": NODE_OVERLAY_IPS.kind}
        body["metadata"]["ownerReferences"] = [owner | {"name": overlay.name, "uid": overlay.uid}]
        return body

    def _set_lease(self, lease: str) -> None:
        before, self._lease = self.lease, lease
        if lease != before:
            self._changed()
