"""Writes and deletes OverlayRouteSlices. Each step is idempotent."""

import logging

from overlay_net.adapters.kube import KubeApi
from overlay_net.domain.routes.slice_writes import SliceWrite
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import NotFound
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, OVERLAY_ROUTE_SLICES
from overlay_net.model.route_slice import slice_manifest

log = logging.getLogger(__name__)


async def write_slice(api: KubeApi, write: SliceWrite) -> JsonObject | None:
    """Create, update or delete one slice. Returns it as it is then, or None if it is deleted.

    Raises AlreadyExists or Conflict if the slice is not the one that the write is based on.
    """
    present = write.present
    if write.content is None:
        await _delete(api, write)
        return None
    if present is None:
        body = slice_manifest(write.index, write.content)
        written = await api.create(OVERLAY_ROUTE_SLICES, body, field_manager=CONTROLLER_FIELD_MANAGER)
    else:
        body = slice_manifest(write.index, write.content, uid=present.uid, resource_version=present.resource_version)
        written = await api.update(OVERLAY_ROUTE_SLICES, write.name, body, field_manager=CONTROLLER_FIELD_MANAGER)
    log.info("slice written", extra={"slice": write.name, "static_routes": len(write.content.entries)})
    return written


async def _delete(api: KubeApi, write: SliceWrite) -> None:
    if write.present is None:
        return
    uid, version = write.present.uid, write.present.resource_version
    try:
        await api.delete(OVERLAY_ROUTE_SLICES, write.name, uid=uid, resource_version=version)
    except NotFound:
        return
    log.info("slice deleted", extra={"slice": write.name})


async def delete_all_slices(api: KubeApi) -> None:
    """Delete every slice, once no NodeOverlayIp is left. Raises ApiError."""
    for name in await api.names(OVERLAY_ROUTE_SLICES):
        try:
            await api.delete(OVERLAY_ROUTE_SLICES, name)
        except NotFound:
            continue
