"""Writes and deletes OverlayRouteSlices. Each step is idempotent."""

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.errors import NotFound
from overlay_net.model.names import OVERLAY_ROUTE_SLICES


async def delete_all_slices(api: KubeApi) -> None:
    """Delete every slice, once no NodeOverlayIp is left. Raises ApiError."""
    for name in await api.names(OVERLAY_ROUTE_SLICES):
        try:
            await api.delete(OVERLAY_ROUTE_SLICES, name)
        except NotFound:
            continue
