"""The conditions GatewayReachable and Ready of a StaticRoute, from the reports of all nodes about its gateways."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from overlay_net.domain.routes import node_status
from overlay_net.domain.routes.node_status import NodeStatus
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.model.conditions import GATEWAY_REACHABLE, READY, Condition, find_condition
from overlay_net.model.net import IpAddress
from overlay_net.model.static_route import StaticRoute

GATEWAY_DOWN = "GatewayDown"


@dataclass(frozen=True, slots=True)
class Gateways:
    """What the nodes of a StaticRoute report about its gateways."""

    probed: bool
    """Whether any node has the result of a probe."""
    silent: Mapping[IpAddress, Sequence[str]]
    """The nodes on which each gateway does not answer."""
    cut_off: Sequence[str]
    """The nodes on which no gateway answers."""


def inspect_gateways(route: StaticRoute, nodes: Iterable[tuple[NodeTable, NodeStatus]]) -> Gateways:
    silent: dict[IpAddress, list[str]] = {}
    cut_off = []
    probed = False
    for table, status in nodes:
        used = _probed_gateways(route, table)
        down = {each.address for each in table.overlay.report.silent_gateways if each.address in used}
        for address in down:
            silent.setdefault(address, []).append(table.node.name)
        if used and down == used:
            cut_off.append(table.node.name)
        probed = probed or bool(down) or bool(used and _has_result(table, status))
    return Gateways(probed, silent, cut_off)


def _probed_gateways(route: StaticRoute, table: NodeTable) -> set[IpAddress]:
    """Return the gateways that the agent of the node probes for this route."""
    if route.spec.kind != "unicast" or route.spec.check.kind == "none":
        return set()
    if route.spec.gateways:
        return {gateway.address for gateway in route.spec.gateways}
    # The node's own gateway, which a route without an overlay address uses, is not probed.
    default = None if table.overlay.routes_only else table.default_gateway
    return set() if default is None else {default}


def _has_result(table: NodeTable, status: NodeStatus) -> bool:
    """Return whether the agent has probed the gateways: it probes those of routes that it could install."""
    reachable = find_condition(table.overlay.report.conditions, GATEWAY_REACHABLE)
    return status.outcome.state == node_status.READY and reachable is not None and reachable.status is not None


def gateway_condition(gateways: Gateways) -> Condition:
    """Return GatewayReachable, which is Unknown if no gateway was probed."""
    if not gateways.probed:
        return Condition(GATEWAY_REACHABLE, None, "NotProbed", "no node has probed a gateway of this route")
    if not gateways.silent:
        return Condition(GATEWAY_REACHABLE, True, "Reachable")
    where = ", ".join(f"{address} on {_nodes(names)}" for address, names in sorted(gateways.silent.items(), key=str))
    return Condition(GATEWAY_REACHABLE, False, GATEWAY_DOWN, f"no answer from {where}")


def ready_condition(accepted: Condition, programmed: Condition, gateways: Gateways) -> Condition:
    """Return Ready: accepted, in place on every node, and each node has a gateway that answers or is not probed.

    While it is not true, it has reason and message of the first condition that prevents it.
    """
    for condition in (accepted, programmed):
        if not condition.status:
            return Condition(READY, condition.status, condition.reason, condition.message)
    if gateways.cut_off:
        return Condition(READY, False, GATEWAY_DOWN, f"no gateway answers on {_nodes(gateways.cut_off)}")
    return Condition(READY, True, "Ready", programmed.message)


def _nodes(names: Sequence[str]) -> str:
    return f"1 node ({names[0]})" if len(names) == 1 else f"{len(names)} nodes (first: {names[0]})"
