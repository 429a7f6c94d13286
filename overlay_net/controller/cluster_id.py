"""The identity of the cluster in an IPAM that several clusters share."""

import asyncio
import logging

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.names import NAMESPACES
from overlay_net.model.parse import find_object, parse_text

log = logging.getLogger(__name__)

RETRY = 2.0


async def fetch_cluster_uid(api: KubeApi) -> str:
    """Read the uid of the namespace kube-system; waits until the API server answers."""
    while True:
        try:
            return parse_text(find_object(await api.get(NAMESPACES, "kube-system"), "metadata").get("uid"))
        except OverlayNetError as error:
            log.warning("waiting for the API server", extra={"error": str(error)})
            await asyncio.sleep(RETRY)
