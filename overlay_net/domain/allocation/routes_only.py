"""A node that is to have routes and no overlay address: what it still holds is given back, and nothing is reserved.

Its object says so first (``spec.routesOnly``), which every agent obeys whatever its own settings are. An address is
released only after the agent has reported on that very spec that its kernel has none; status says so before the IPAM is
told, by a write that fails for a controller whose view of the object is old.
"""

from overlay_net.domain.allocation.reserved_condition import since, tell
from overlay_net.model.conditions import RESERVED, Condition
from overlay_net.model.node_actions import (
    Announce,
    ApplyAssignment,
    ClusterAction,
    FindReservations,
    NodePlan,
    NodeView,
    Release,
)
from overlay_net.model.overlay import Assignment, NodeOverlay

ROUTES_ONLY = "RoutesOnly"


def plan_routes_only(view: NodeView, overlay: NodeOverlay) -> NodePlan:
    """Once the object says that the node has routes only: from what it holds to nothing."""
    held = overlay.assignment
    holds = held.address is not None or bool(held.releasing) or held.node_uid != ""
    if holds and not overlay.is_without_address:
        what = str(held.address.ip) if held.address is not None else "its address"
        message = f"overlay addresses are switched off; waiting for the agent on node {view.name} to let go of {what}"
        return NodePlan(tell(view, overlay, Condition(RESERVED, True, "WaitingForAgent", message)))
    if view.ipam_failure is not None:
        if not holds:
            return NodePlan()
        reason, message = view.ipam_failure
        waiting = f"overlay addresses are switched off; the address is not released yet: {message}"
        return NodePlan(tell(view, overlay, Condition(RESERVED, held.address is not None, reason, waiting)))
    if view.reservations is None and (holds or view.check_ipam):
        return NodePlan((FindReservations(),))
    reservations = view.reservations or ()
    message = "overlay addresses are switched off: this node has routes only"
    nothing = Assignment(
        releasing=tuple(str(each.address.ip) for each in reservations),
        withdrawn=held.withdrawn,
        reserved=since(view, overlay, Condition(RESERVED, False, ROUTES_ONLY, message)),
    )
    actions: list[ClusterAction] = []
    if nothing != held:
        actions.append(ApplyAssignment(nothing))
    if held.address is not None:
        given_back = f"{held.address.ip} is given back: overlay addresses are switched off"
        actions.append(Announce(ROUTES_ONLY, given_back, warning=False))
    return NodePlan((*actions, *(Release(each) for each in reservations)))
