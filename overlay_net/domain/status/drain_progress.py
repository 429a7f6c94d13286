"""What an uninstall waits for, in words for the person who waits too."""

from collections.abc import Sequence

from overlay_net.model.overlay import NodeOverlay

NAMED = 5


def describe_remaining(overlays: Sequence[NodeOverlay]) -> str:
    """An empty text once no object is left."""
    if not overlays:
        return ""
    told = [f"{overlay.name} ({_why(overlay)})" for overlay in sorted(overlays, key=lambda each: each.name)[:NAMED]]
    more = f", and {len(overlays) - NAMED} more" if len(overlays) > NAMED else ""
    return f"{len(overlays)} NodeOverlayIps to go: {', '.join(told)}{more}"


def _why(overlay: NodeOverlay) -> str:
    if not overlay.deleting:
        return "not deleted yet"
    if not overlay.has_finalizer:
        return f"held by the finalizers of others: {', '.join(overlay.finalizers)}"
    reserved = overlay.assignment.reserved
    return reserved.message if reserved is not None and reserved.message else "its address is being released"
