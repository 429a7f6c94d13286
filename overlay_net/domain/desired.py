"""NodeOverlayIp -> what this node's kernel must have."""

from overlay_net.model.kernel import Desired, DesiredLink
from overlay_net.model.overlay import NodeOverlay


def desired_state(overlay: NodeOverlay | None, link: DesiredLink) -> Desired:
    """All that the kernel must have; nothing once the object is confirmed gone or is being deleted.

    An object that shows no address for a moment says nothing about the address that this node reported as its own:
    it is kept. The address goes only with the object.
    """
    if overlay is None or overlay.deleting:
        return Desired()
    address = overlay.assignment.address or overlay.report.configured
    return Desired(
        link=link if address is not None else None,
        address=address,
        routes=overlay.routes,
    )
