"""Reads what protects subnets in a cluster, as the controller does, for commands that only read."""

from collections.abc import Iterable

from overlay_net.adapters.kube import KubeApi
from overlay_net.adapters.kube.cluster_networks import find_sources
from overlay_net.cli.controller_settings import KnownSettings
from overlay_net.domain.routes.protected_subnets import Protection, find_configured
from overlay_net.domain.routes.protecting_objects import protected_by_node, protected_by_overlay, protected_by_pool
from overlay_net.domain.routes.special_purpose import special_purpose
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool


async def read_protection(
    api: KubeApi,
    known: KnownSettings,
    nodes: Iterable[Node],
    overlays: Iterable[NodeOverlay],
    pools: Iterable[Pool],
) -> tuple[Protection, list[str]]:
    """Return what is protected, and notes about sources that could not be read."""
    settings, notes = known.settings, list(known.notes)
    protection = Protection(allow_default=settings.allow_default_route)
    protection.protect("special-purpose", special_purpose(allow_link_local=settings.allow_link_local_routes))
    for name in ("protected_subnets", "service_subnets", "pod_subnets"):
        protection.protect(name, find_configured(name, getattr(settings, name)))
    for node in nodes:
        protection.protect(f"node {node.name}", protected_by_node(node))
    for overlay in overlays:
        protection.protect(f"overlay {overlay.name}", protected_by_overlay(overlay))
    for pool in pools:
        protection.protect(f"pool {pool.name}", protected_by_pool(pool))
    urls = {api.connection.server: "API server"}
    if known.phpipam_url:
        urls[known.phpipam_url] = "phpIPAM"
    sources = find_sources(api, urls, services=not settings.service_subnets, pods=not settings.pod_subnets)
    for name, read in sources.items():
        try:
            protection.protect(name, await read())
        except (OverlayNetError, OSError) as error:
            notes.append(f"not checked against the subnets of {name}: {error}")
    return protection, notes
