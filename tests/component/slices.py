"""What the agent of a node would read from the OverlayRouteSlices of its sets."""

from typing import Any

from overlay_net.adapters.kube import KubeApi
from overlay_net.domain.routes.merge import Selection, merge_routes, select_entries
from overlay_net.model.errors import NotFound
from overlay_net.model.names import NODE_OVERLAY_IPS, OVERLAY_ROUTE_SLICES
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_slice import RouteSlice, by_set
from overlay_net.model.route_spec import encode_route


async def read_node(api: KubeApi, node: str) -> tuple[NodeOverlay, Selection] | None:
    """Read the object of a node, and the StaticRoutes in its sets."""
    try:
        overlay = NodeOverlay.parse(await api.get(NODE_OVERLAY_IPS, node))
    except NotFound:
        return None
    slices = by_set(RouteSlice.parse(raw) for raw in (await api.list(OVERLAY_ROUTE_SLICES)).items)
    return overlay, select_entries(overlay.route_sets or (), slices)


async def node_routes(api: KubeApi, node: str) -> list[dict[str, Any]]:
    """The routes of a node, in the form of ``spec.routes``."""
    found = await read_node(api, node)
    if found is None:
        return []
    overlay, selection = found
    gateway = None if overlay.routes_only else overlay.assignment.gateway
    return [encode_route(each) for each in merge_routes(selection.applied, gateway)]


async def observed_slices(api: KubeApi, node: str) -> dict[str, int]:
    """The slices that the agent of a node reports once it has read them."""
    found = await read_node(api, node)
    return dict(found[1].slices) if found is not None else {}
