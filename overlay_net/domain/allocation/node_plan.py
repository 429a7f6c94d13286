"""Plans the next steps for one node from its NodeView: its object, its address, its deletion.

The plan depends only on the view, so it can be made again at any time; it is empty once nothing is left to do.
``address_plan`` decides which address a node gets, and ``removal_plan`` when it is released.
"""

from dataclasses import replace

from overlay_net.domain.allocation.address_plan import plan_address
from overlay_net.domain.allocation.agent_silence import with_ready_unknown
from overlay_net.domain.allocation.omitted_routes import plan_omitted_condition
from overlay_net.domain.allocation.removal_plan import may_be_in_use, plan_absence, plan_delete, plan_deletion
from overlay_net.domain.allocation.routes_only import plan_routes_only
from overlay_net.domain.allocation.withdrawn_routes import find_withdrawals, plan_withdrawn_condition
from overlay_net.model.names import NODE_LABEL, REGION_LABEL, ZONE_LABEL, label_value
from overlay_net.model.node import UNKNOWN_INSTANCE, Node
from overlay_net.model.node_actions import (
    ApplyAssignment,
    ApplyOverlay,
    FindReservations,
    LifecyclePolicy,
    NodePlan,
    NodeRoutes,
    NodeView,
    RemoveTaint,
)
from overlay_net.model.overlay import NodeOverlay


def plan_node(view: NodeView, policy: LifecyclePolicy) -> NodePlan:
    """Plan the next steps for one node; empty once everything is as desired."""
    overlay, node = view.overlay, view.node
    if overlay is not None:
        return with_ready_unknown(view, overlay, _plan_present(view, overlay, policy))
    if node is None or policy.draining:
        return NodePlan()
    # Without routes, as their gateway is unknown until the address is assigned.
    return NodePlan((ApplyOverlay(overlay_labels(node), (), node=node.instance, cluster=view.cluster),))


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
    plan = _with_node_present(overlay, plan)
    # A report is valid only for its generation of the spec, not if this or a later plan is about to change the spec.
    applies = overlay.node != node.instance or any(isinstance(action, ApplyOverlay) for action in plan.actions)
    if policy.startup_taint in node.taints and overlay.is_ready and not applies:
        return replace(plan, actions=(*plan.actions, RemoveTaint(policy.startup_taint)))
    return plan


def _plan_deleting(view: NodeView, overlay: NodeOverlay, policy: LifecyclePolicy) -> NodePlan:
    node = view.node
    if node is None or overlay.node in (UNKNOWN_INSTANCE, node.instance) or not may_be_in_use(overlay):
        return plan_deletion(view, overlay, policy)
    # The agent that runs now must answer: that of an earlier boot, or on an earlier Node of this name, cannot any more.
    present = (overlay.routes, overlay.routes_only, overlay.generations, overlay.withdrawn, overlay.omitted)
    return NodePlan((ApplyOverlay(overlay_labels(node), *present, node.instance, overlay.cluster, overlay.adoptable),))


def overlay_labels(node: Node) -> dict[str, str]:
    labels = {NODE_LABEL: label_value(node.name), REGION_LABEL: node.region, ZONE_LABEL: node.zone}
    return {key: value for key, value in labels.items() if value}


def _plan_with_address(view: NodeView, overlay: NodeOverlay, node: Node) -> NodePlan:
    plan = plan_address(view, overlay, node)
    only_asks = plan.actions == (FindReservations(),)
    if plan.actions and not (only_asks and overlay.assignment.address is not None):
        # The gateway of the routes is not known yet, or this plan is about to change it.
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
    """Plan the write of the object's spec unless it is as desired. Routes are compiled only here."""
    compiled, labels = view.compile_routes(), overlay_labels(node)
    desired = (compiled, routes_only, node.instance, view.cluster)
    routes = NodeRoutes(overlay.routes, overlay.generations, overlay.omitted, overlay.adoptable)
    present = (routes, overlay.routes_only, overlay.node, overlay.cluster)
    if present == desired and overlay.has_finalizer and labels == overlay.own_labels:
        return ()
    withdrawn = find_withdrawals(overlay, compiled.routes, view.now)
    return (
        ApplyOverlay(
            labels,
            compiled.routes,
            routes_only,
            compiled.generations,
            withdrawn,
            compiled.omitted,
            node.instance,
            view.cluster,
            compiled.adoptable,
        ),
    )


def _with_node_present(overlay: NodeOverlay, plan: NodePlan) -> NodePlan:
    """Add that the Node exists, whatever its IPAM answers: its next deletion must start ``release_after`` again."""
    assignment = overlay.assignment
    if assignment.node_gone_since is None or any(isinstance(action, ApplyAssignment) for action in plan.actions):
        # That write is without it, or the next plan adds one.
        return plan
    return replace(plan, actions=(*plan.actions, ApplyAssignment(replace(assignment, node_gone_since=None))))


def _with_route_conditions(view: NodeView, overlay: NodeOverlay, plan: NodePlan) -> NodePlan:
    # One write at a time: the next plan adds the other condition.
    conditions = plan_omitted_condition(view, overlay)
    if not conditions.actions:
        conditions = plan_withdrawn_condition(view, overlay)
    waits = [wait for wait in (plan.requeue_after, conditions.requeue_after) if wait is not None]
    return NodePlan((*plan.actions, *conditions.actions), min(waits, default=None))
