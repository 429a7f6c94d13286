"""Computes the status of one StaticRoute on one node from the NodeOverlayIp and the report in it.

A report lists only the routes that are not in place; all others that the agent has observed are. Until the agent has
observed the latest spec, an unchanged route keeps its last status. Otherwise each edit of one StaticRoute would make
the status of all others flap. A report about another instance of the node does not count at all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from overlay_net.domain.routes.node_table import NodeTable, select_tables
from overlay_net.domain.routes.protected_subnets import RouteCheck, refusal
from overlay_net.domain.routes.rollout import NodeProgress
from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpNetwork
from overlay_net.model.node_report import RouteFailure
from overlay_net.model.parse import find_objects, parse_int, parse_text
from overlay_net.model.route_key import encode_route_key
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.static_route import StaticRoute

MAX_NODES = 1000
"""Maximum number of nodeStatus entries, failing nodes first. The counts cover all nodes."""

READY, PENDING, FAILED = "Ready", "Pending", "Failed"
NOT_NEEDED = "NotNeeded"
"""The only gateway of the route is the node itself."""
DONE = frozenset({READY, NOT_NEEDED})

ROLLING_OUT = "RollingOut"
"""Reason for a node that keeps its previous generation for now."""


class Conflict(NamedTuple):
    static_route: str
    """Name of the older StaticRoute with the same route."""
    subnet: IpNetwork


@dataclass(frozen=True, slots=True)
class Outcome:
    state: str
    message: str = ""
    reason: str = ""
    """Reason of the condition ``Programmed`` if a probe or a rollout is why this node is not ready."""
    conflict: Conflict | None = None


IN_PLACE = Outcome(READY)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One entry of nodeStatus."""

    hostname: str
    gateway: str
    device: str
    outcome: Outcome

    def to_json(self) -> JsonObject:
        raw: JsonObject = {"hostname": self.hostname, "gateway": self.gateway, "device": self.device}
        raw["state"] = self.outcome.state
        if self.outcome.message:
            raw["message"] = self.outcome.message
        return raw


def rollout_progress(
    route: StaticRoute, tables: Iterable[NodeTable], protection: RouteCheck
) -> tuple[NodeProgress, ...]:
    """Return the progress of each selected node; empty if ``route`` is rejected."""
    if refusal(route, protection) is not None:
        return ()
    last = find_last_entries(route)
    return tuple(_progress(route, table, last) for table in select_tables(route, tables))


def _progress(route: StaticRoute, table: NodeTable, last: Mapping[str, JsonObject] | None) -> NodeProgress:
    present = table.generations.get(route.name)
    updated = present is not None and present.revision == route.revision
    in_place = updated and node_status(route, table, last).outcome.state in DONE
    failing = route.name in table.route_probes or any(
        failure.static_route == route.name for failure in table.overlay.report.failures
    )
    return NodeProgress(table.node.name, updated, in_place, failing and not updated)


def find_last_entries(route: StaticRoute) -> Mapping[str, JsonObject] | None:
    """Return the present nodeStatus entries by node; None if they are of an earlier generation.

    Those of the earlier operator have no state.
    """
    if parse_int(route.status.get("observedGeneration")) != route.generation:
        return None
    entries = find_objects(route.status, "nodeStatus")
    return {parse_text(raw.get("hostname")): raw for raw in entries if "state" in raw}


def node_status(route: StaticRoute, table: NodeTable, last: Mapping[str, JsonObject] | None) -> NodeStatus:
    """Return the status of ``route`` on one node; ``last`` is the result of ``find_last_entries``."""
    hostname, gateway, device = table.node.name, _gateway(route, table), _device(route, table)
    outcome = _generation_outcome(route, table) or _entries_outcome(route, table) or _report_outcome(route, table)
    if outcome is None and last is not None and table.has_report:
        outcome = _last_outcome(last, hostname, gateway, device)
    return NodeStatus(hostname, gateway, device, outcome or Outcome(PENDING, "the agent has not reported yet"))


def _gateway(route: StaticRoute, table: NodeTable) -> str:
    if not route.spec.gateways and route.spec.kind == "unicast":
        return str(table.default_gateway or "")
    return ", ".join(str(gateway.address) for gateway in route.spec.gateways)


def _device(route: StaticRoute, table: NodeTable) -> str:
    """Return the overlay link if the gateway is in the overlay subnet, else its parent interface."""
    report = table.overlay.report
    if table.overlay.routes_only:
        return report.interface
    address = table.overlay.assignment.address
    direct = bool(route.spec.gateways) and (address is None or route.spec.gateways[0].address not in address.network)
    return report.interface if direct else report.link


def _generation_outcome(route: StaticRoute, table: NodeTable) -> Outcome | None:
    """The outcome if the node lacks the current generation or its route probe has not succeeded, else None."""
    present = table.generations.get(route.name)
    if present is None or present.revision != route.revision:
        return _outdated(route, table, present)
    route_probe = table.route_probes.get(route.name)
    if route_probe is None or not route_probe.matches(present):
        return None
    return Outcome(PENDING if route_probe.state == "Probing" else FAILED, route_probe.message, route_probe.state)


def _outdated(route: StaticRoute, table: NodeTable, present: RouteGeneration | None) -> Outcome | None:
    if route.rollout is not None:
        has = f"generation {present.generation}" if present is not None else "its previous routes"
        return Outcome(PENDING, f"still has {has}; waiting for its turn in the rollout", ROLLING_OUT)
    if present is not None or (route.probe is not None and has_entries(route, table)):
        return Outcome(PENDING, "the NodeOverlayIp still has an earlier generation")
    return None


def has_entries(route: StaticRoute, table: NodeTable) -> bool:
    """Return whether the NodeOverlayIp has a route of this StaticRoute."""
    entries = (
        table.routes.get(encode_route_key(subnet, route.spec.metric, route.spec.table)) for subnet in route.subnets
    )
    return any(entry is not None and entry.static_route == route.name for entry in entries)


def _entries_outcome(route: StaticRoute, table: NodeTable) -> Outcome | None:
    """The first conflict or failure of an entry, else Pending if one is missing, else None."""
    missing = False
    for subnet in route.subnets:
        key = encode_route_key(subnet, route.spec.metric, route.spec.table)
        entry = table.routes.get(key)
        if entry is None:
            missing = True
            continue
        problem = _conflict(route, subnet, entry, table) or _failure(subnet, table.failures.get(key), table)
        if problem is not None:
            return problem
    return Outcome(PENDING, "not in the NodeOverlayIp yet") if missing else None


def _conflict(route: StaticRoute, subnet: IpNetwork, entry: DesiredRoute, table: NodeTable) -> Outcome | None:
    """The conflict if the entry belongs to an older StaticRoute and differs from this one's, else None."""
    if entry.static_route == route.name:
        return None
    gateway = None if table.overlay.routes_only else table.overlay.assignment.gateway
    if route.spec_for(entry.version, gateway) == entry.spec:
        return None
    message = f"{subnet} is already routed by the older StaticRoute {entry.static_route}"
    return Outcome(FAILED, message, conflict=Conflict(entry.static_route, subnet))


def _failure(subnet: IpNetwork, failure: RouteFailure | None, table: NodeTable) -> Outcome | None:
    if failure is None or not table.is_current:
        return None
    return Outcome(PENDING if failure.reason == "Pending" else FAILED, f"{subnet}: {failure.message}")


def _report_outcome(route: StaticRoute, table: NodeTable) -> Outcome | None:
    """The outcome from the report; None while the agent has not observed the latest spec."""
    if not table.is_current:
        return None
    not_needed = table.not_needed.get(route.name)
    if not_needed is not None:
        return Outcome(NOT_NEEDED, not_needed.message)
    if table.has_unlisted_failures:
        return Outcome(PENDING, "more routes fail on this node than its report lists")
    return IN_PLACE


def _last_outcome(last: Mapping[str, JsonObject], hostname: str, gateway: str, device: str) -> Outcome | None:
    """The last outcome on this node, if the route still has the same gateway and device."""
    entry = last.get(hostname)
    if entry is None:
        # Failing nodes are listed first: if the list is full and ends with ready nodes, those left out were ready.
        return IN_PLACE if len(last) >= MAX_NODES and _ends_ready(last) else None
    if (parse_text(entry.get("gateway")), parse_text(entry.get("device"))) != (gateway, device):
        return None
    return Outcome(parse_text(entry.get("state")), parse_text(entry.get("message")))


def _ends_ready(last: Mapping[str, JsonObject]) -> bool:
    return parse_text(list(last.values())[-1].get("state")) == READY
