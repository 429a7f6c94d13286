"""Decides which Nodes get an overlay address and routes: those on which an agent runs."""

from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.selectors import Selector


def has_agent(node: Node, overlay: NodeOverlay | None, selector: Selector) -> bool:
    """Return whether an agent runs on the node, or may have left an address in its kernel.

    A node that the selector excludes keeps its object once an agent, of this or of the earlier operator, has used it:
    the address may still be in its kernel. Without such a trace the node is handled like a deleted one.
    """
    if selector.matches(node.labels):
        return True
    if overlay is None:
        return False
    inherited = overlay.assignment.address is not None and overlay.assignment.node_uid == ""
    return inherited or bool(overlay.report.conditions)
