"""StaticRoute.status, aggregated from all nodes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice
from types import MappingProxyType

from overlay_net.domain.routes.node_status import (
    DONE,
    FAILED,
    MAX_NODES,
    NOT_NEEDED,
    PENDING,
    READY,
    ROLLING_OUT,
    NodeStatus,
    find_last_entries,
    has_entries,
    node_status,
)
from overlay_net.domain.routes.node_table import NodeTable, select_tables
from overlay_net.domain.routes.protected_subnets import NOTHING, RouteCheck, refusal
from overlay_net.domain.routes.readiness import gateway_condition, inspect_gateways, ready_condition
from overlay_net.model.adoptable_route import EarlierEntry
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import ACCEPTED, PROGRAMMED, Condition, transition
from overlay_net.model.net import IpNetwork
from overlay_net.model.static_route import Rollout, StaticRoute

_ORDER = {FAILED: 0, PENDING: 1, NOT_NEEDED: 2, READY: 3}

NAMED_NODES = 10
"""Maximum number of nodes that a condition names."""


def route_status(
    route: StaticRoute,
    tables: Iterable[NodeTable],
    now: datetime,
    protection: RouteCheck = NOTHING,
    unhanded: Mapping[str, EarlierEntry] = MappingProxyType({}),
) -> JsonObject:
    """Return the whole status of ``route``, which equals its present status if nothing has changed.

    ``unhanded`` are entries of the earlier operator that stay, by node (see ``takeover``).
    """
    refused = refusal(route, protection)
    selected = _select(route, tables, refused)
    last = find_last_entries(route)
    nodes = [node_status(route, table, last) for table in selected]
    gateways = inspect_gateways(route, zip(selected, nodes, strict=True))
    conflicts = _find_conflicts(nodes)
    nodes.sort(key=lambda node: (_ORDER[node.outcome.state], node.outcome.reason == ROLLING_OUT, node.hostname))
    accepted = _accepted(refused, conflicts, in_place=bool(selected))
    programmed = _programmed(route, nodes, refused)
    conditions = (
        accepted,
        programmed,
        gateway_condition(gateways),
        ready_condition(accepted, programmed, gateways),
    )
    updated = {"updated": sum(_is_updated(node) for node in nodes)} if route.rollout is not None else {}
    return updated | {
        "subnet": _shorten(route.destinations),
        "nodeStatus": _node_entries(nodes, unhanded),
        "desired": len(nodes) - _count(nodes, NOT_NEEDED),
        "ready": _count(nodes, READY),
        "failed": _count(nodes, FAILED),
        "observedGeneration": route.generation,
        "conditions": [
            transition(route.conditions, replace(condition, observed_generation=route.generation), now).to_json()
            for condition in conditions
        ],
    }


def _node_entries(nodes: Iterable[NodeStatus], unhanded: Mapping[str, EarlierEntry]) -> list[JsonObject]:
    kept = [unhanded[name].to_json() for name in sorted(unhanded)]
    written = (node.to_json() for node in nodes if node.hostname not in unhanded)
    return list(islice(chain(kept, written), MAX_NODES))


def _shorten(destinations: Sequence[str]) -> str:
    """Return the first subnet and the number of others, in the way of kubectl."""
    more = len(destinations) - 1
    return f"{destinations[0]} + {more} more" if more > 0 else "".join(destinations)


def _select(route: StaticRoute, tables: Iterable[NodeTable], refused: tuple[str, str] | None) -> list[NodeTable]:
    """Return the nodes that must have the route, or that keep it although it is refused."""
    if route.problem:
        return []
    return [table for table in select_tables(route, tables) if refused is None or has_entries(route, table)]


def _find_conflicts(nodes: Iterable[NodeStatus]) -> Mapping[str, IpNetwork]:
    """Return the first subnet of each older StaticRoute that has the same route."""
    conflicts: dict[str, IpNetwork] = {}
    for node in nodes:
        if node.outcome.conflict is not None:
            conflicts.setdefault(*node.outcome.conflict)
    return conflicts


def _count(nodes: Sequence[NodeStatus], state: str) -> int:
    return sum(node.outcome.state == state for node in nodes)


def _is_updated(node: NodeStatus) -> bool:
    return node.outcome.reason != ROLLING_OUT


def _accepted(refused: tuple[str, str] | None, conflicts: Mapping[str, IpNetwork], *, in_place: bool) -> Condition:
    if refused is not None:
        reason, message = refused
        if in_place:
            message += "; nodes that already have the route keep it, others do not get it"
        return Condition(ACCEPTED, False, reason, message)
    if conflicts:
        others = ", ".join(f"{subnet} ({name})" for name, subnet in sorted(conflicts.items()))
        message = f"already routed by an older StaticRoute: {others}; change the subnet or the metric of one of them"
        return Condition(ACCEPTED, False, "Conflict", message)
    return Condition(ACCEPTED, True, "Accepted")


def _programmed(route: StaticRoute, nodes: Sequence[NodeStatus], refused: tuple[str, str] | None) -> Condition:
    if refused is not None and not nodes:
        return Condition(PROGRAMMED, False, "NotAccepted", "no node gets the routes of a StaticRoute that is rejected")
    if not nodes:
        return Condition(PROGRAMMED, False, "NoNodes", "no node matches the zone label and nodeSelector")
    ready, needed = _count(nodes, READY), len(nodes) - _count(nodes, NOT_NEEDED)
    if ready == needed:
        return Condition(PROGRAMMED, True, "Programmed", _describe_complete(nodes))
    if route.rollout is not None and not all(map(_is_updated, nodes)):
        return _rolling_out(route.rollout, nodes)
    worst = nodes[0]
    reason = worst.outcome.reason or ("Failing" if _count(nodes, FAILED) else "Pending")
    message = f"in place on {ready} of {needed} nodes; {worst.hostname}: {worst.outcome.message}"
    return Condition(PROGRAMMED, False, reason, message)


def _describe_complete(nodes: Sequence[NodeStatus]) -> str:
    gateways = [node.hostname for node in nodes if node.outcome.state == NOT_NEEDED]
    if not gateways:
        return "in place on every node"
    names = ", ".join(gateways[:NAMED_NODES])
    more = f" and {len(gateways) - NAMED_NODES} more" if len(gateways) > NAMED_NODES else ""
    return f"in place on every node; not needed on {names}{more}, which is its gateway"


def _rolling_out(rollout: Rollout, nodes: Sequence[NodeStatus]) -> Condition:
    limit = rollout.limit(len(nodes))
    updated = [node for node in nodes if _is_updated(node)]
    unavailable = [node for node in updated if node.outcome.state not in DONE]
    message = f"{len(updated)} of {len(nodes)} nodes updated, at most {limit} unavailable at a time"
    if not unavailable:
        return Condition(PROGRAMMED, False, ROLLING_OUT, message)
    names = ", ".join(node.hostname for node in unavailable[:NAMED_NODES])
    if len(unavailable) > NAMED_NODES:
        names += f" and {len(unavailable) - NAMED_NODES} more"
    first = f"{unavailable[0].hostname}: {unavailable[0].outcome.message}"
    if len(unavailable) >= limit and all(node.outcome.state == FAILED for node in unavailable):
        return Condition(PROGRAMMED, False, "RolloutStopped", f"{message}; not in place on {names}; {first}")
    return Condition(PROGRAMMED, False, ROLLING_OUT, f"{message}; waiting for {names}; {first}")
