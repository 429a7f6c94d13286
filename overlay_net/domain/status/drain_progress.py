"""Describes what a drain is still waiting for, as one line for the user who uninstalls the product."""

from collections.abc import Sequence

from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.wording import count, name_some

NAMED = 5


def describe_remaining(overlays: Sequence[NodeOverlay]) -> str:
    """Return the remaining NodeOverlayIps and what each is waiting for; an empty string if there are none."""
    if not overlays:
        return ""
    named = [f"{overlay.name} ({_cause(overlay)})" for overlay in sorted(overlays, key=lambda each: each.name)]
    return f"{count(len(overlays), 'NodeOverlayIp')}: {name_some(named, NAMED)}"


def _cause(overlay: NodeOverlay) -> str:
    if not overlay.deleting:
        return "not deleted yet"
    if not overlay.has_finalizer:
        return f"held by foreign finalizers: {', '.join(overlay.finalizers)}"
    reserved = overlay.assignment.reserved
    return reserved.message if reserved is not None and reserved.message else "its address is being released"
