"""An apply after which an object has only the applied ones of our fields, even if other clients have written them."""

import logging
from collections.abc import Collection

from overlay_net.adapters.kube.rest import KubeApi
from overlay_net.model.api import JsonObject
from overlay_net.model.managed_fields import Path, encode_removal, find_leftovers
from overlay_net.model.names import Resource
from overlay_net.model.parse import find_name, find_object

log = logging.getLogger(__name__)


async def apply_owned(
    api: KubeApi,
    resource: Resource,
    body: JsonObject,
    *,
    field_manager: str,
    owned: Collection[Path],
    subresource: str | None = None,
    metadata_only: bool = True,
) -> JsonObject:
    """Apply ``body``, and remove fields below ``owned`` that it omits and that other field managers keep.

    One request unless there are such fields. ``owned`` are the fields that have a meaning only for ``field_manager``.
    Raises Conflict also if the object changes before they are removed; the next apply finds them again. Returns the
    object as it is then, with ``metadata_only`` perhaps without the rest.
    """
    name = find_name(body)
    answer = await api.apply(
        resource, name, body, field_manager=field_manager, subresource=subresource, metadata_only=metadata_only
    )
    metadata = find_object(answer, "metadata")
    leftovers = find_leftovers(metadata, field_manager, body, owned)
    if not leftovers:
        return answer
    change = encode_removal(leftovers, await api.get(resource, name))
    # Only of the object as the apply has left it: another process may have decided otherwise since.
    change.setdefault("metadata", {})["resourceVersion"] = metadata.get("resourceVersion")
    answer = await api.merge_patch(resource, name, change, subresource=subresource)
    fields = sorted(".".join(path) for path in leftovers)
    log.info("fields of other field managers removed", extra={"kind": resource.kind, "object": name, "fields": fields})
    return answer
