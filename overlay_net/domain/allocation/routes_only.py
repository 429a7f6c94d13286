"""Plans a node with routes and no overlay address: releases its reservations, and makes none.

First ``spec.routesOnly`` is set, which every agent respects regardless of its own settings. An address is released only
after the agent has reported for that generation of the spec that its kernel has no overlay address. The address is
removed from status before it is released in the IPAM, by a write that fails for a controller with a stale view.
"""

from overlay_net.domain.allocation.missing_ipam import find_missing_ipam, ipams_after_read
from overlay_net.domain.allocation.reserved_condition import report_reserved, reserved_condition
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
DISABLED = "overlay addresses are disabled"


def plan_routes_only(view: NodeView, overlay: NodeOverlay) -> NodePlan:
    """Plan the removal of any assignment from an object whose spec already has ``routesOnly``."""
    current = overlay.assignment
    assigned = current.address is not None or bool(current.releasing or current.ipams) or current.node_uid != ""
    if assigned and not overlay.is_without_address:
        address = str(current.address.ip) if current.address is not None else "its address"
        message = f"{DISABLED}; waiting for the agent on node {view.name} to remove {address}"
        return NodePlan(report_reserved(view, overlay, "WaitingForAgent", message, status=True))
    failure = view.ipam_failure or find_missing_ipam(view, overlay)
    if failure is not None:
        if not assigned:
            return NodePlan()
        reason, error = failure
        message = f"{DISABLED}; the address is not released yet: {error}"
        return NodePlan(report_reserved(view, overlay, reason, message, status=current.address is not None))
    if view.reservations is None and (assigned or view.check_ipam):
        return NodePlan((FindReservations(),))
    return NodePlan(_release_all(view, overlay))


def _release_all(view: NodeView, overlay: NodeOverlay) -> tuple[ClusterAction, ...]:
    current, reservations = overlay.assignment, view.reservations or ()
    message = f"{DISABLED}; this node has routes only"
    empty = Assignment(
        releasing=tuple(str(each.address.ip) for each in reservations),
        ipams=ipams_after_read(view, overlay, reservations),
        withdrawn=current.withdrawn,
        routes_accepted=current.routes_accepted,
        reserved=reserved_condition(view, overlay, ROUTES_ONLY, message, status=False),
    )
    actions: list[ClusterAction] = []
    if empty != current:
        actions.append(ApplyAssignment(empty))
    if current.address is not None:
        actions.append(Announce(ROUTES_ONLY, f"releasing {current.address.ip}: {DISABLED}", warning=False))
    return (*actions, *(Release(each) for each in reservations))
