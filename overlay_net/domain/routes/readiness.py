"""The conditions GatewayReachable and Ready of a StaticRoute, from the reports of all nodes about its gateways."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from overlay_net.domain.routes import node_status
from overlay_net.domain.routes.node_status import NodeStatus
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.model.conditions import GATEWAY_REACHABLE, READY, Condition, find_condition
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import GATEWAY_DOWN, LINK_DOWN
from overlay_net.model.static_route import StaticRoute


@dataclass(frozen=True, slots=True)
class Gateways:
    """What the nodes of a StaticRoute report about its gateways."""

    probed: bool
    """Whether any node has the result of a probe."""
    silent: Mapping[IpAddress, Sequence[str]]
    """The nodes on which each gateway does not answer."""
    no_link: Mapping[IpAddress, Sequence[str]]
    """The nodes on which each gateway is on no link that can carry traffic."""
    cut_off: Sequence[str]
    """The nodes on which no gateway can be used."""


def inspect_gateways(route: StaticRoute, nodes: Iterable[tuple[NodeTable, NodeStatus]]) -> Gateways:
    silent: dict[IpAddress, list[str]] = {}
    no_link: dict[IpAddress, list[str]] = {}
    cut_off = []
    probed = False
    # Once for all nodes.
    specified = frozenset(gateway.address for gateway in route.spec.gateways)
    for table, status in nodes:
        used = _used_gateways(route, specified, table)
        is_probed = bool(used) and _is_probed(route, table)
        down = _find_down(table, used, is_probed)
        for address, reason in down.items():
            found = silent if reason == GATEWAY_DOWN else no_link
            found.setdefault(address, []).append(table.node.name)
        if used and down.keys() == used:
            cut_off.append(table.node.name)
        probed = probed or bool(down) or (is_probed and _has_result(table, status))
    return Gateways(probed, silent, no_link, cut_off)


def _find_down(table: NodeTable, used: Collection[IpAddress], is_probed: bool) -> dict[IpAddress, str]:
    """Return the gateways of ``used`` that the node cannot use, with the reason."""
    return {
        each.address: each.reason
        for each in table.overlay.report.silent_gateways
        if each.address in used and (is_probed or each.reason != GATEWAY_DOWN)
    }


def _used_gateways(route: StaticRoute, specified: frozenset[IpAddress], table: NodeTable) -> frozenset[IpAddress]:
    """Return the gateways of this route on the node, without those that are the node itself."""
    if route.spec.kind != "unicast":
        return frozenset()
    if specified:
        return specified - table.own_addresses
    default = table.default_gateway
    return frozenset() if default is None else frozenset({default})


def _is_probed(route: StaticRoute, table: NodeTable) -> bool:
    # The node's own gateway, which a route without an overlay address uses, is not probed.
    return route.spec.check.kind != "none" and bool(route.spec.gateways or not table.overlay.routes_only)


def _has_result(table: NodeTable, status: NodeStatus) -> bool:
    """Return whether the agent has probed the gateways: it probes those of routes that it could install."""
    reachable = find_condition(table.overlay.report.conditions, GATEWAY_REACHABLE)
    return status.outcome.state == node_status.READY and reachable is not None and reachable.status is not None


def gateway_condition(gateways: Gateways) -> Condition:
    """Return GatewayReachable, which is Unknown if no gateway was probed."""
    if not gateways.probed:
        return Condition(GATEWAY_REACHABLE, None, "NotProbed", "no node has probed a gateway of this route")
    parts = [
        f"{problem} {_describe(found)}"
        for problem, found in (("no answer from", gateways.silent), ("no usable link to", gateways.no_link))
        if found
    ]
    if not parts:
        return Condition(GATEWAY_REACHABLE, True, "Reachable")
    return Condition(GATEWAY_REACHABLE, False, GATEWAY_DOWN if gateways.silent else LINK_DOWN, "; ".join(parts))


def _describe(found: Mapping[IpAddress, Sequence[str]]) -> str:
    return ", ".join(f"{address} on {_nodes(names)}" for address, names in sorted(found.items(), key=str))


def ready_condition(accepted: Condition, programmed: Condition, gateways: Gateways) -> Condition:
    """Return Ready: accepted, in place on every node, and each node has a gateway that can be used.

    While it is not true, it has reason and message of the first condition that prevents it.
    """
    for condition in (accepted, programmed):
        if not condition.status:
            return Condition(READY, condition.status, condition.reason, condition.message)
    if gateways.cut_off:
        message = f"no usable gateway on {_nodes(gateways.cut_off)}; see the condition {GATEWAY_REACHABLE}"
        return Condition(READY, False, GATEWAY_DOWN, message)
    return Condition(READY, True, "Ready", programmed.message)


def _nodes(names: Sequence[str]) -> str:
    return f"1 node ({names[0]})" if len(names) == 1 else f"{len(names)} nodes (first: {names[0]})"
