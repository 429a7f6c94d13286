"""All NodeOverlayIps -> StaticRoute.status.

A node's report names only the routes that are not in place, so everything else that the node was told and has
observed is in place. While a node has not yet seen the latest spec, the last verdict on an unchanged route stands:
otherwise each edit of one route would let all others flicker.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from overlay_net.domain.node_routes import refusal
from overlay_net.domain.protection import NOTHING, Protection
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import ACCEPTED, GATEWAY_REACHABLE, PROGRAMMED, Condition, transition
from overlay_net.model.kernel import DesiredRoute, IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay, RouteFailure
from overlay_net.model.parse import integer_of, objects_of, text_of
from overlay_net.model.route_key import QuickKey, quick_key
from overlay_net.model.static_route import StaticRoute

MAX_NODES = 1000
"""Entries of nodeStatus at the most, failing ones first; the counts cover all nodes."""

READY, PENDING, FAILED = "Ready", "Pending", "Failed"
_ORDER = {FAILED: 0, PENDING: 1, READY: 2}


@dataclass(frozen=True, slots=True)
class NodeTable:
    """One node's routes, indexed once for all StaticRoutes."""

    node: Node
    overlay: NodeOverlay
    routes: Mapping[QuickKey, DesiredRoute]
    failures: Mapping[QuickKey, RouteFailure]

    @classmethod
    def of(cls, node: Node, overlay: NodeOverlay) -> "NodeTable":
        return cls(
            node,
            overlay,
            {route.key: route for route in overlay.routes},
            {failure.key: failure for failure in overlay.report.failures},
        )

    @property
    def current(self) -> bool:
        """Whether the agent has reported on the spec as it is now."""
        return self.overlay.report.observed_generation >= self.overlay.generation

    @property
    def unnamed_failures(self) -> bool:
        """Whether more routes fail than the report has room for."""
        return self.overlay.report.routes_failed > len(self.overlay.report.failures)


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    hostname: str
    gateway: str
    device: str
    state: str
    message: str = ""

    def to_json(self) -> JsonObject:
        raw: JsonObject = {"hostname": self.hostname, "gateway": self.gateway, "device": self.device}
        raw["state"] = self.state
        if self.message:
            raw["message"] = self.message
        return raw


def route_status(
    route: StaticRoute, tables: Iterable[NodeTable], now: datetime, protection: Protection = NOTHING
) -> JsonObject:
    """The whole status of ``route``; equal to its present status when nothing has changed."""
    refused = refusal(route, protection)
    before = _verdicts_before(route)
    verdicts: list[NodeVerdict] = []
    conflicts: dict[str, IpNetwork] = {}
    silent: dict[IpAddress, list[str]] = {}
    if refused is None:
        selected = (table for table in tables if route.selects(table.node) and not table.overlay.deleting)
        for table in selected:
            verdicts.append(_verdict(route, table, before, conflicts))
            for gateway in _silent_gateways(route, table):
                silent.setdefault(gateway, []).append(table.node.name)
    verdicts.sort(key=lambda verdict: (_ORDER[verdict.state], verdict.hostname))
    ready = sum(verdict.state == READY for verdict in verdicts)
    failed = sum(verdict.state == FAILED for verdict in verdicts)
    conditions = (
        _accepted(refused, conflicts),
        _programmed(verdicts, ready, failed),
        _gateway_reachable(route, verdicts, silent),
    )
    return {
        "nodeStatus": [verdict.to_json() for verdict in verdicts[:MAX_NODES]],
        "desired": len(verdicts),
        "ready": ready,
        "failed": failed,
        "observedGeneration": route.generation,
        "conditions": [
            transition(route.conditions, _at_generation(condition, route.generation), now).to_json()
            for condition in conditions
        ],
    }


def _verdicts_before(route: StaticRoute) -> Mapping[str, JsonObject] | None:
    """The last verdicts by node, as far as they speak of the route as it is now; None: they speak of another spec."""
    if integer_of(route.status.get("observedGeneration")) != route.generation:
        return None
    return {text_of(raw.get("hostname")): raw for raw in objects_of(route.status, "nodeStatus")}


def _verdict(
    route: StaticRoute, table: NodeTable, before: Mapping[str, JsonObject] | None, conflicts: dict[str, IpNetwork]
) -> NodeVerdict:
    hostname = table.node.name
    gateway = ", ".join(str(gateway.address) for gateway in route.gateways)
    if not gateway and route.kind == "unicast":
        gateway = _text(table.overlay.assignment.gateway)
    device = _device(route, table)
    pending = ""
    for subnet in route.subnets:
        key = quick_key(subnet, route.metric, route.table)
        entry = table.routes.get(key)
        if entry is None:
            pending = "the node's object does not have it yet"
        elif entry.owner != route.name and not _same(route, entry, table):
            conflicts.setdefault(entry.owner, subnet)
            message = f"{subnet} is already routed by the older StaticRoute {entry.owner}"
            return NodeVerdict(hostname, gateway, device, FAILED, message)
        elif (failure := table.failures.get(key)) is not None and table.current:
            state = PENDING if failure.reason == "Pending" else FAILED
            return NodeVerdict(hostname, gateway, device, state, f"{subnet}: {failure.message}")
    if not pending and table.current:
        if table.unnamed_failures:
            return NodeVerdict(hostname, gateway, device, PENDING, "more routes fail here than the agent names")
        return NodeVerdict(hostname, gateway, device, READY)
    if not pending and before is not None:
        last = before.get(hostname)
        if last is None and len(before) >= MAX_NODES:
            # Failing nodes are listed first: one that found no room in the list was ready.
            return NodeVerdict(hostname, gateway, device, READY)
        if last and (text_of(last.get("gateway")), text_of(last.get("device"))) == (gateway, device):
            return NodeVerdict(hostname, gateway, device, text_of(last.get("state")), text_of(last.get("message")))
    return NodeVerdict(hostname, gateway, device, PENDING, pending or "the agent has not reported yet")


def _same(route: StaticRoute, entry: DesiredRoute, table: NodeTable) -> bool:
    """Whether the entry of an older object says what this one would."""
    return replace(route.route_to(entry.subnet, table.overlay.assignment.gateway), owner=entry.owner) == entry


def _device(route: StaticRoute, table: NodeTable) -> str:
    """The overlay link for a gateway of the overlay subnet, else the interface below it."""
    overlay = table.overlay.assignment.address
    direct = bool(route.gateways) and (overlay is None or route.gateways[0].address not in overlay.network)
    return table.overlay.report.interface if direct else table.overlay.report.link


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _at_generation(condition: Condition, generation: int) -> Condition:
    return Condition(condition.type, condition.status, condition.reason, condition.message, generation)


def _silent_gateways(route: StaticRoute, table: NodeTable) -> tuple[IpAddress, ...]:
    """Gateways of the route that do not answer on this node."""
    if route.kind != "unicast" or route.check.kind == "none":
        return ()
    own = table.overlay.assignment.gateway
    used = {gateway.address for gateway in route.gateways} or ({own} if own else set())
    return tuple(each.address for each in table.overlay.report.silent_gateways if each.address in used)


def _gateway_reachable(
    route: StaticRoute, verdicts: list[NodeVerdict], silent: Mapping[IpAddress, list[str]]
) -> Condition:
    if route.kind != "unicast" or route.check.kind == "none":
        return Condition(GATEWAY_REACHABLE, True, "NotProbed", "no gateway is probed")
    if not silent:
        return Condition(GATEWAY_REACHABLE, True, "Reachable", "" if verdicts else "no node is selected")
    told = ", ".join(
        f"{address} on {len(nodes)} nodes ({nodes[0]})" for address, nodes in sorted(silent.items(), key=str)
    )
    return Condition(GATEWAY_REACHABLE, False, "GatewayDown", f"no answer from {told}")


def _accepted(refused: tuple[str, str] | None, conflicts: Mapping[str, IpNetwork]) -> Condition:
    if refused is not None:
        return Condition(ACCEPTED, False, *refused)
    if conflicts:
        named = ", ".join(f"{subnet} belongs to {name}" for name, subnet in sorted(conflicts.items()))
        return Condition(ACCEPTED, False, "Conflict", f"an older StaticRoute has the same subnet: {named}")
    return Condition(ACCEPTED, True, "Accepted")


def _programmed(verdicts: list[NodeVerdict], ready: int, failed: int) -> Condition:
    if not verdicts:
        return Condition(PROGRAMMED, False, "NoNodes", "no node is selected")
    if ready == len(verdicts):
        return Condition(PROGRAMMED, True, "Programmed", f"in place on all {ready} nodes")
    reason = "Failing" if failed else "Pending"
    worst = verdicts[0]
    message = f"in place on {ready} of {len(verdicts)} nodes; {worst.hostname}: {worst.message}"
    return Condition(PROGRAMMED, False, reason, message)
