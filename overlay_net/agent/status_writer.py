"""Writes the agent's part of a NodeOverlayIp's status."""

import logging

from overlay_net.adapters.kube import KubeApi, apply_owned
from overlay_net.model.errors import NotFound
from overlay_net.model.names import AGENT_FIELD_MANAGER, NODE_OVERLAY_IPS
from overlay_net.model.node_report import REPORT_FIELDS, Report
from overlay_net.model.overlay import NodeOverlay

log = logging.getLogger(__name__)


class StatusWriter:
    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def write(self, overlay: NodeOverlay, report: Report) -> None:
        """Write the report by server-side apply. Does nothing if the object is gone, which its watch reports too.

        Raises ApiError.
        """
        body = NODE_OVERLAY_IPS.manifest(overlay.name, uid=overlay.uid, status=report.to_json())
        try:
            await apply_owned(
                self._api,
                NODE_OVERLAY_IPS,
                body,
                field_manager=AGENT_FIELD_MANAGER,
                owned=REPORT_FIELDS,
                subresource="status",
            )
        except NotFound:
            return
        log.info(
            "status written",
            extra={"node": overlay.name, "address": report.configured, "failed_routes": report.routes_failed},
        )
