"""All NodeOverlayIps -> StaticRoute.status.

A node's report names only the routes that are not in place, so everything else that the node was told and has
observed is in place. While a node has not yet seen the latest spec, the last verdict on an unchanged route stands:
otherwise each edit of one route would let all others flicker.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from overlay_net.domain.routes.compile import refusal
from overlay_net.domain.routes.protected_subnets import NOTHING, Protection
from overlay_net.domain.routes.rollout import NodeProgress
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import ACCEPTED, GATEWAY_REACHABLE, PROGRAMMED, Condition, transition
from overlay_net.model.kernel import DesiredRoute
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay, RouteFailure
from overlay_net.model.parse import find_objects, parse_int, parse_text
from overlay_net.model.route_key import RouteKey, route_key
from overlay_net.model.route_probe import RouteGeneration, RouteProbe
from overlay_net.model.static_route import StaticRoute

MAX_NODES = 1000
"""Entries of nodeStatus at the most, failing ones first; the counts cover all nodes."""

READY, PENDING, FAILED = "Ready", "Pending", "Failed"
_ORDER = {FAILED: 0, PENDING: 1, READY: 2}

WAITING = "RollingOut"
"""Cause of a node that keeps what it has for now."""


@dataclass(frozen=True, slots=True)
class NodeTable:
    """One node's routes, indexed once for all StaticRoutes."""

    node: Node
    overlay: NodeOverlay
    routes: Mapping[RouteKey, DesiredRoute]
    failures: Mapping[RouteKey, RouteFailure]
    generations: Mapping[str, RouteGeneration]
    route_probes: Mapping[str, RouteProbe]

    @classmethod
    def index(cls, node: Node, overlay: NodeOverlay) -> "NodeTable":
        return cls(
            node,
            overlay,
            {route.key: route for route in overlay.routes},
            {failure.key: failure for failure in overlay.report.failures},
            {each.static_route: each for each in overlay.generations},
            {route_probe.static_route: route_probe for route_probe in overlay.report.route_probes},
        )

    @property
    def unnamed_failures(self) -> bool:
        """Whether more routes fail than the report has room for."""
        return self.overlay.report.routes_failed > len(self.overlay.report.failures)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    hostname: str
    gateway: str
    device: str
    state: str
    message: str = ""
    cause: str = ""
    """Of a node that is not ready because of a probe or a roll-out: the reason of the condition."""

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
    verdicts: list[NodeStatus] = []
    conflicts: dict[str, IpNetwork] = {}
    silent: dict[IpAddress, list[str]] = {}
    if refused is None:
        selected = (table for table in tables if route.selects(table.node) and not table.overlay.deleting)
        for table in selected:
            verdicts.append(_verdict(route, table, before, conflicts))
            for gateway in _silent_gateways(route, table):
                silent.setdefault(gateway, []).append(table.node.name)
    verdicts.sort(key=lambda verdict: (_ORDER[verdict.state], verdict.cause == WAITING, verdict.hostname))
    ready = sum(verdict.state == READY for verdict in verdicts)
    failed = sum(verdict.state == FAILED for verdict in verdicts)
    conditions = (
        _accepted(refused, conflicts),
        _programmed(route, verdicts, ready, failed),
        _gateway_reachable(route, verdicts, silent),
    )
    updated = sum(verdict.cause != WAITING for verdict in verdicts)
    return ({"updated": updated} if route.rollout is not None else {}) | {
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
    if parse_int(route.status.get("observedGeneration")) != route.generation:
        return None
    return {parse_text(raw.get("hostname")): raw for raw in find_objects(route.status, "nodeStatus")}


def _verdict(
    route: StaticRoute, table: NodeTable, before: Mapping[str, JsonObject] | None, conflicts: dict[str, IpNetwork]
) -> NodeStatus:
    hostname = table.node.name
    gateway = ", ".join(str(gateway.address) for gateway in route.gateways)
    if not gateway and route.kind == "unicast":
        gateway = _text(_gateway_of(table))
    device = _device(route, table)
    tried = _tried(route, table)
    if tried is not None:
        state, message, cause = tried
        return NodeStatus(hostname, gateway, device, state, message, cause)
    pending = ""
    for subnet in route.subnets:
        key = route_key(subnet, route.metric, route.table)
        entry = table.routes.get(key)
        if entry is None:
            pending = "the node's object does not have it yet"
        elif entry.static_route != route.name and not _same(route, entry, table):
            conflicts.setdefault(entry.static_route, subnet)
            message = f"{subnet} is already routed by the older StaticRoute {entry.static_route}"
            return NodeStatus(hostname, gateway, device, FAILED, message)
        elif (failure := table.failures.get(key)) is not None and table.overlay.current:
            state = PENDING if failure.reason == "Pending" else FAILED
            return NodeStatus(hostname, gateway, device, state, f"{subnet}: {failure.message}")
    if not pending and table.overlay.current:
        if table.unnamed_failures:
            return NodeStatus(hostname, gateway, device, PENDING, "more routes fail here than the agent names")
        return NodeStatus(hostname, gateway, device, READY)
    if not pending and before is not None:
        last = before.get(hostname)
        if last is None and len(before) >= MAX_NODES and _ends_well(before):
            # Failing nodes are listed first: one that found no room in the list was ready.
            return NodeStatus(hostname, gateway, device, READY)
        if last and (parse_text(last.get("gateway")), parse_text(last.get("device"))) == (gateway, device):
            return NodeStatus(hostname, gateway, device, parse_text(last.get("state")), parse_text(last.get("message")))
    return NodeStatus(hostname, gateway, device, PENDING, pending or "the agent has not reported yet")


def _ends_well(before: Mapping[str, JsonObject]) -> bool:
    return parse_text(next(reversed(list(before.values()))).get("state")) == READY


def _tried(route: StaticRoute, table: NodeTable) -> tuple[str, str, str] | None:
    """State, message and cause of a node that has not got this generation yet, or has not proven it."""
    told = table.generations.get(route.name)
    if told is None or told.revision != route.revision:
        if route.rollout is not None:
            has = f"keeps generation {told.generation}" if told is not None else "keeps what it has"
            return PENDING, f"{has}, and waits for its turn in the roll-out", WAITING
        if told is not None or (route.probe is not None and _has_entries(route, table)):
            return PENDING, "the node's object still has an earlier generation", ""
        return None
    route_probe = table.route_probes.get(route.name)
    if route_probe is None or not route_probe.is_of(told):
        return None
    return PENDING if route_probe.state == "Probing" else FAILED, route_probe.message, route_probe.state


def _has_entries(route: StaticRoute, table: NodeTable) -> bool:
    keys = (route_key(subnet, route.metric, route.table) for subnet in route.subnets)
    return any((entry := table.routes.get(key)) is not None and entry.static_route == route.name for key in keys)


def rollout_progress(
    route: StaticRoute, tables: Iterable[NodeTable], protection: Protection
) -> tuple[NodeProgress, ...]:
    """How far the nodes meant are with the present generation; none for an object that no node gets."""
    if refusal(route, protection) is not None:
        return ()
    before = _verdicts_before(route)
    selected = (table for table in tables if route.selects(table.node) and not table.overlay.deleting)
    return tuple(_progress(route, table, before) for table in selected)


def _progress(route: StaticRoute, table: NodeTable, before: Mapping[str, JsonObject] | None) -> NodeProgress:
    told = table.generations.get(route.name)
    reached = told is not None and told.revision == route.revision
    in_place = reached and _verdict(route, table, before, {}).state == READY
    failing = route.name in table.route_probes or any(
        failure.static_route == route.name for failure in table.overlay.report.failures
    )
    return NodeProgress(table.node.name, reached, in_place, failing and not reached)


def _same(route: StaticRoute, entry: DesiredRoute, table: NodeTable) -> bool:
    """Whether the entry of an older object says what this one would."""
    gateway = None if table.overlay.routes_only else table.overlay.assignment.gateway
    return replace(route.route_to(entry.subnet, gateway), static_route=entry.static_route) == entry


def _gateway_of(table: NodeTable) -> IpAddress | None:
    """Where a route without a gateway of its own goes."""
    overlay = table.overlay
    return overlay.report.fallback if overlay.routes_only else overlay.assignment.gateway


def _device(route: StaticRoute, table: NodeTable) -> str:
    """The overlay link for a gateway of the overlay subnet, else the interface below it."""
    if table.overlay.routes_only:
        return table.overlay.report.interface
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
    own = _gateway_of(table)
    used = {gateway.address for gateway in route.gateways} or ({own} if own else set())
    return tuple(each.address for each in table.overlay.report.silent_gateways if each.address in used)


def _gateway_reachable(
    route: StaticRoute, verdicts: list[NodeStatus], silent: Mapping[IpAddress, list[str]]
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


def _programmed(route: StaticRoute, verdicts: list[NodeStatus], ready: int, failed: int) -> Condition:
    if not verdicts:
        return Condition(PROGRAMMED, False, "NoNodes", "no node is selected")
    if ready == len(verdicts):
        return Condition(PROGRAMMED, True, "Programmed", f"in place on all {ready} nodes")
    worst = verdicts[0]
    message = f"in place on {ready} of {len(verdicts)} nodes; {worst.hostname}: {worst.message}"
    waiting = sum(verdict.cause == WAITING for verdict in verdicts)
    if waiting and route.rollout is not None:
        unavailable = [each for each in verdicts if each.state != READY and each.cause != WAITING]
        limit = route.rollout.limit(len(verdicts))
        stopped = len(unavailable) >= limit and all(each.state == FAILED for each in unavailable)
        return Condition(PROGRAMMED, False, *_rolling(verdicts, waiting, unavailable, limit, stopped=stopped))
    reason = worst.cause or ("Failing" if failed else "Pending")
    return Condition(PROGRAMMED, False, reason, message)


def _rolling(
    verdicts: list[NodeStatus], waiting: int, unavailable: list[NodeStatus], limit: int, *, stopped: bool
) -> tuple[str, str]:
    told = f"{len(verdicts) - waiting} of {len(verdicts)} nodes have this generation, {limit} at a time may be without"
    if not unavailable:
        return WAITING, told
    names = ", ".join(each.hostname for each in unavailable[:10])
    more = f" and {len(unavailable) - 10} more" if len(unavailable) > 10 else ""
    first = f"{unavailable[0].hostname}: {unavailable[0].message}"
    if stopped:
        return "RolloutStopped", f"{told}; not in place on {names}{more}; {first}"
    return WAITING, f"{told}; waits for {names}{more}; {first}"
