"""Reads what protects subnets in a cluster, as the controller does, for commands that only read."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from overlay_net.adapters.kube import KubeApi
from overlay_net.adapters.kube.cluster_networks import find_sources
from overlay_net.cli.release import find_release, read_settings
from overlay_net.domain.routes.protected_subnets import Protection, find_configured
from overlay_net.domain.routes.protecting_objects import protected_by_node, protected_by_overlay, protected_by_pool
from overlay_net.domain.routes.special_purpose import special_purpose
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_object, parse_text
from overlay_net.model.pool import Pool
from overlay_net.settings.controller import ControllerSettings

USED = (
    "allow_default_route",
    "allow_link_local_routes",
    "node_selector",
    "pod_subnets",
    "protected_subnets",
    "service_subnets",
)
"""The settings that decide which StaticRoutes are refused, and on which nodes an agent runs."""


@dataclass(frozen=True, slots=True)
class KnownSettings:
    settings: ControllerSettings
    urls: dict[str, str]
    """Hosts that are protected, by URL, with their use."""
    notes: list[str] = field(default_factory=list)


async def read_known_settings(api: KubeApi, server: str, namespace: str = "") -> KnownSettings:
    """Read the settings of the controllers; with a note, the defaults if they cannot be read."""
    urls = {server: "API server"}
    try:
        content: dict[str, Any] = await read_settings(api, await find_release(api, namespace))
        settings = _make_settings({name: content[name] for name in USED if name in content})
    except (OverlayNetError, ValidationError) as error:
        text = str(error) if isinstance(error, OverlayNetError) else "they are of another version"
        note = f"the settings of the controllers are unknown, and the defaults are used: {text}"
        return KnownSettings(_make_settings({}), urls, [note])
    section = find_object(content, "phpipam") or find_object(content, "phpIPAM")
    if url := parse_text(section.get("url")):
        urls[url] = "phpIPAM"
    return KnownSettings(settings, urls)


def _make_settings(content: dict[str, Any]) -> ControllerSettings:
    return ControllerSettings(**content)


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
    sources = find_sources(api, known.urls, services=not settings.service_subnets, pods=not settings.pod_subnets)
    for name, read in sources.items():
        try:
            protection.protect(name, await read())
        except (OverlayNetError, OSError) as error:
            notes.append(f"not checked against the subnets of {name}: {error}")
    return protection, notes
