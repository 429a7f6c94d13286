"""Plans the next steps for one node from its NodeView: its object, its address, its deletion.

The plan depends only on the view, so it can be made again at any time; it is empty once nothing is left to do.
``address_plan`` decides which address a node gets, and ``removal_plan`` when it is released.
"""

from dataclasses import replace
from datetime import timedelta

from overlay_net.domain.allocation.address_plan import plan_address
from overlay_net.domain.allocation.agent_silence import with_ready_unknown
from overlay_net.domain.allocation.omitted_routes import plan_accepted_condition
from overlay_net.domain.allocation.removal_plan import may_be_in_use, plan_absence, plan_delete, plan_deletion
from overlay_net.domain.allocation.routes_only import plan_routes_only
from overlay_net.domain.allocation.withdrawn_routes import find_withdrawals, plan_withdrawn_condition
from overlay_net.model.names import NODE_LABEL, REGION_LABEL, ZONE_LABEL, label_value
from overlay_net.model.node import UNKNOWN_INSTANCE, Node
from overlay_net.model.node_actions import (
    ApplyAssignment,
    ApplyOverlay,
    EarlierRoutes,
    FindReservations,
    LifecyclePolicy,
    NodePlan,
    NodeView,
    RemoveTaint,
)
from overlay_net.model.overlay import NodeOverlay

NEXT_LOOKUP = timedelta(seconds=1)
"""Interval for looking up the sets of a node again while it waits for slices to be written."""


def plan_node(view: NodeView, policy: LifecyclePolicy) -> NodePlan:
    """Plan the next steps for one node; empty once everything is as desired."""
    overlay, node = view.overlay, view.node
    if overlay is not None:
        return with_ready_unknown(view, overlay, _plan_present(view, overlay, policy))
    if node is None or policy.draining:
        return NodePlan()
    return NodePlan((_plan_object(view, node, routes_only=not policy.overlay_addresses),))


def _plan_object(view: NodeView, node: Node, *, routes_only: bool) -> ApplyOverlay:
    """Plan the creation of the object of a node.

    The addresses of a Node that registers without any are reported a moment later, and may be in a routed subnet, so
    its sets come with a later plan.
    """
    routes = view.find_routes()
    return ApplyOverlay(
        overlay_labels(node),
        routes.sets if node.addresses or not routes.sets else None,
        routes_only,
        node=node.instance,
        cluster=view.cluster,
        adoptable=routes.adoptable,
    )


def _plan_present(view: NodeView, overlay: NodeOverlay, policy: LifecyclePolicy) -> NodePlan:
    """Plan the next steps for a node that has an object."""
    node = view.node
    if overlay.deleting:
        return _plan_deleting(view, overlay, policy)
    if policy.draining:
        return plan_delete(view)
    if node is None:
        return plan_absence(view, overlay, policy)
    if policy.overlay_addresses:
        plan = _plan_with_address(view, overlay, node)
    else:
        plan = _plan_without_address(view, overlay, node)
    plan = _with_next_lookup(view, _with_node_present(overlay, plan))
    # A report is valid only for its generation of the spec, not if this or a later plan is about to change the spec.
    applies = overlay.node != node.instance or any(isinstance(action, ApplyOverlay) for action in plan.actions)
    ready = overlay.is_ready and not applies
    if policy.startup_taint in node.taints and ready and view.has_observed_slices():
        return replace(plan, actions=(*plan.actions, RemoveTaint(policy.startup_taint)))
    return plan


def _plan_deleting(view: NodeView, overlay: NodeOverlay, policy: LifecyclePolicy) -> NodePlan:
    node = view.node
    if node is None or overlay.node in (UNKNOWN_INSTANCE, node.instance) or not may_be_in_use(overlay):
        return plan_deletion(view, overlay, policy)
    # The agent that runs now must answer: that of an earlier boot, or on an earlier Node of this name, cannot any more.
    present = (overlay.route_sets, overlay.routes_only, overlay.withdrawn)
    routes = (overlay.adoptable, EarlierRoutes.of(overlay))
    return NodePlan((ApplyOverlay(overlay_labels(node), *present, node.instance, overlay.cluster, *routes),))


def overlay_labels(node: Node) -> dict[str, str]:
    labels = {NODE_LABEL: label_value(node.name), REGION_LABEL: node.region, ZONE_LABEL: node.zone}
    return {key: value for key, value in labels.items() if value}


def _plan_with_address(view: NodeView, overlay: NodeOverlay, node: Node) -> NodePlan:
    plan = plan_address(view, overlay, node)
    only_asks = plan.actions == (FindReservations(),) and (node.addresses or overlay.assignment.address is not None)
    if plan.actions and not only_asks:
        # One write of the object at a time: the next plan has the other.
        return plan
    # Routes never wait for an IPAM: its answer is handled by the next plan.
    spec = _plan_spec(view, overlay, node, routes_only=False)
    if spec:
        return replace(plan, actions=(*spec, *plan.actions))
    return _with_route_conditions(view, overlay, plan)


def _plan_without_address(view: NodeView, overlay: NodeOverlay, node: Node) -> NodePlan:
    # The agent removes the address once the spec asks for routes only.
    plan = NodePlan(_plan_spec(view, overlay, node, routes_only=True))
    if not plan.actions:
        plan = plan_routes_only(view, overlay)
    return plan if plan.actions else _with_route_conditions(view, overlay, plan)


def _plan_spec(view: NodeView, overlay: NodeOverlay, node: Node, *, routes_only: bool) -> tuple[ApplyOverlay, ...]:
    """Plan the write of the object's spec unless it is as desired."""
    found, labels = view.find_routes(), overlay_labels(node)
    sets = overlay.route_sets if found.sets is None else found.sets
    earlier = EarlierRoutes.of(overlay)
    if earlier is not None and view.has_observed_slices():
        earlier = None
    desired = (sets, found.adoptable, earlier is not None, routes_only, node.instance, view.cluster)
    present = (
        overlay.route_sets,
        overlay.adoptable,
        overlay.has_routes,
        overlay.routes_only,
        overlay.node,
        overlay.cluster,
    )
    if present == desired and overlay.has_finalizer and labels == overlay.own_labels:
        return ()
    withdrawn = find_withdrawals(view, overlay, sets or ())
    return (ApplyOverlay(labels, sets, routes_only, withdrawn, node.instance, view.cluster, found.adoptable, earlier),)


def _with_node_present(overlay: NodeOverlay, plan: NodePlan) -> NodePlan:
    """Add that the Node exists, whatever its IPAM answers: its next deletion must start ``release_after`` again."""
    assignment = overlay.assignment
    if assignment.node_gone_since is None or any(isinstance(action, ApplyAssignment) for action in plan.actions):
        # That write is without it, or the next plan adds one.
        return plan
    return replace(plan, actions=(*plan.actions, ApplyAssignment(replace(assignment, node_gone_since=None))))


def _with_next_lookup(view: NodeView, plan: NodePlan) -> NodePlan:
    if view.find_routes().complete:
        return plan
    waits = [wait for wait in (plan.requeue_after, NEXT_LOOKUP) if wait is not None]
    return replace(plan, requeue_after=min(waits))


def _with_route_conditions(view: NodeView, overlay: NodeOverlay, plan: NodePlan) -> NodePlan:
    # One write at a time: the next plan adds the other condition.
    conditions = plan_accepted_condition(overlay)
    if not conditions.actions:
        conditions = plan_withdrawn_condition(view, overlay)
    waits = [wait for wait in (plan.requeue_after, conditions.requeue_after) if wait is not None]
    return NodePlan((*plan.actions, *conditions.actions), min(waits, default=None))
