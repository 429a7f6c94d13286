"""Writes the agent's part of a NodeOverlayIp's status."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from overlay_net.adapters.kube import KubeApi, apply_owned
from overlay_net.model.errors import NotFound
from overlay_net.model.names import AGENT_FIELD_MANAGER, NODE_OVERLAY_IPS
from overlay_net.model.node_report import REPORT_FIELDS, Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_version
from overlay_net.runtime.store import Store

log = logging.getLogger(__name__)

ANSWER_TIMEOUT: Final = 1.0
"""Seconds that ``wait_answer`` waits at most; then the object is read, which is right in any case."""


class StatusWriter:
    """``store`` gets the object as a write leaves it, so that it need not be read again."""

    def __init__(self, api: KubeApi, store: Store[NodeOverlay]) -> None:
        self._api = api
        self._store = store
        self._writing = asyncio.Lock()

    async def write(self, overlay: NodeOverlay, report: Report) -> None:
        """Write the report by server-side apply. Does nothing if the object is gone, which its watch reports too.

        Raises ApiError; Conflict if the object is not the one in the store: only of that is known what the write makes.
        """
        async with self._writing:
            present = self._store.get(overlay.name)
            if present is None or present.uid != overlay.uid:
                return
            body = NODE_OVERLAY_IPS.manifest(
                present.name, uid=present.uid, resource_version=present.resource_version, status=report.to_json()
            )
            try:
                answer = await apply_owned(
                    self._api,
                    NODE_OVERLAY_IPS,
                    body,
                    field_manager=AGENT_FIELD_MANAGER,
                    owned=REPORT_FIELDS,
                    subresource="status",
                )
            except NotFound:
                return
            version = find_version(answer)
            self._store.replace_written(present.name, version, present.after_report(report, version))
        log.info(
            "status written",
            extra={"node": overlay.name, "address": report.configured, "failed_routes": report.routes_failed},
        )

    async def wait_answer(self) -> None:
        """Wait until no write is in flight, so that the store has what it made."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_TIMEOUT), self._writing:
                return
