"""The conditions GatewayReachable and Ready of a StaticRoute, from the reports of all nodes about its gateways."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from overlay_net.domain.routes.node_states import NodeStates
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.status_index import StatusIndex
from overlay_net.model.conditions import GATEWAY_REACHABLE, READY, Condition
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


def inspect_gateways(index: StatusIndex, route: StaticRoute, states: NodeStates) -> Gateways:
    silent: dict[IpAddress, list[str]] = {}
    no_link: dict[IpAddress, list[str]] = {}
    cut_off = []
    for table in _tables_with_silent(index, route, states):
        used = _used_gateways(route, table)
        down = _find_down(table, used, is_probed=_is_probed(route, table))
        for address, reason in down.items():
            found = silent if reason == GATEWAY_DOWN else no_link
            found.setdefault(address, []).append(table.node.name)
        if used and down.keys() == used:
            cut_off.append(table.node.name)
    probed = bool(silent or no_link) or _has_result(index, route, states)
    return Gateways(probed, silent, no_link, cut_off)


def _tables_with_silent(index: StatusIndex, route: StaticRoute, states: NodeStates) -> Iterator[NodeTable]:
    """Yield the nodes, in order, that cannot use a gateway of the StaticRoute."""
    reported, names = index.reported, set[str]()
    for gateway in route.spec.gateways:
        names |= reported.silent[gateway.address]
    if not route.spec.gateways:
        names |= reported.default_silent
    return (index.tables[name] for name in sorted(names) if states.has(name))


def _find_down(table: NodeTable, used: Collection[IpAddress], *, is_probed: bool) -> dict[IpAddress, str]:
    """Return the gateways of ``used`` that the node cannot use, with the reason."""
    return {
        address: reason
        for address, reason in table.silent.items()
        if address in used and (is_probed or reason != GATEWAY_DOWN)
    }


def _used_gateways(route: StaticRoute, table: NodeTable) -> frozenset[IpAddress]:
    """Return the gateways of this route on the node, without those that are the node itself."""
    if route.spec.kind != "unicast":
        return frozenset()
    if route.spec.gateways:
        return frozenset(gateway.address for gateway in route.spec.gateways) - table.own_addresses
    default = table.default_gateway
    return frozenset() if default is None else frozenset({default})


def _is_probed(route: StaticRoute, table: NodeTable) -> bool:
    # The node's own gateway, which a route without an overlay address uses, is not probed.
    return route.spec.check.kind != "none" and bool(route.spec.gateways or not table.overlay.routes_only)


def _has_result(index: StatusIndex, route: StaticRoute, states: NodeStates) -> bool:
    """Return whether any agent has probed a gateway: it probes those of routes that it could install."""
    if route.spec.check.kind == "none" or not index.reported.probed:
        return False
    tables = (index.tables[name] for name in states.names_in_place() if name in index.reported.probed)
    return any(_is_probed(route, table) and _used_gateways(route, table) for table in tables)


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
