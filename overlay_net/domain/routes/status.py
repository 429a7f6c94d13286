"""StaticRoute.status, aggregated from all nodes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from types import MappingProxyType

from overlay_net.domain.routes.node_states import NAMED_NODES, NodeStates
from overlay_net.domain.routes.node_status import NodeStatus
from overlay_net.domain.routes.outcome import FAILED, NOT_NEEDED, PENDING, ROLLING_OUT
from overlay_net.domain.routes.readiness import gateway_condition, inspect_gateways, ready_condition
from overlay_net.domain.routes.status_index import StatusIndex
from overlay_net.model.adoptable_route import EarlierEntry
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import ACCEPTED, PROGRAMMED, Condition, transition
from overlay_net.model.net import IpNetwork
from overlay_net.model.static_route import Rollout, StaticRoute
from overlay_net.model.wording import name_some

DEFAULT_LIMIT = 250
"""Maximum number of nodeStatus entries. The counts cover all nodes."""

MAX_NODES = 1000
"""Maximum number of nodeStatus entries in the schema."""


def route_status(
    index: StatusIndex,
    route: StaticRoute,
    now: datetime,
    refused: tuple[str, str] | None = None,
    unhanded: Mapping[str, EarlierEntry] = MappingProxyType({}),
    present: Iterable[Condition] = (),
    limit: int = DEFAULT_LIMIT,
) -> JsonObject:
    """Return the whole status of ``route``, which equals its present status if nothing has changed.

    ``refused`` is the result of ``protected_subnets.refusal``. ``unhanded`` are entries of the earlier operator that
    stay, by node (see ``takeover``). ``present`` are the conditions that the StaticRoute has.
    """
    states = NodeStates(index, route, refused)
    gateways = inspect_gateways(index, route, states)
    nodes = states.first(max(limit, NAMED_NODES) + len(unhanded))
    accepted = _accepted(refused, states.conflicts(), in_place=bool(states.total))
    programmed = _programmed(route, states, nodes, refused)
    conditions = (
        accepted,
        programmed,
        gateway_condition(gateways),
        ready_condition(accepted, programmed, gateways),
    )
    optional: JsonObject = {}
    if route.rollout is not None:
        optional["updated"] = states.total - states.kept_back
    if route.spec.gateways:
        optional["gateway"] = _shorten([str(each.address) for each in route.spec.gateways])
    return optional | {
        "subnet": _shorten(route.destinations),
        "nodeStatus": _node_entries(nodes, unhanded, limit),
        "desired": states.needed,
        "ready": states.ready,
        "failed": states.failed,
        "observedGeneration": route.generation,
        "conditions": [
            transition(present, replace(condition, observed_generation=route.generation), now).to_json()
            for condition in conditions
        ],
    }


def _node_entries(nodes: Iterable[NodeStatus], unhanded: Mapping[str, EarlierEntry], limit: int) -> list[JsonObject]:
    """Entries of the earlier operator prove what its nodes have, so the limit does not apply to them."""
    kept = [unhanded[name].to_json() for name in sorted(unhanded)][:MAX_NODES]
    written = (node.to_json() for node in nodes if node.hostname not in unhanded)
    return [*kept, *islice(written, max(0, limit - len(kept)))]


def _shorten(texts: Sequence[str]) -> str:
    """Return the first text and the number of others, in the way of kubectl."""
    more = len(texts) - 1
    return f"{texts[0]} + {more} more" if more > 0 else "".join(texts)


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


def _programmed(
    route: StaticRoute, states: NodeStates, nodes: Sequence[NodeStatus], refused: tuple[str, str] | None
) -> Condition:
    """``nodes`` are the first ones, failing ones first."""
    if refused is not None and not nodes:
        return Condition(PROGRAMMED, False, "NotAccepted", "no node gets the routes of a StaticRoute that is rejected")
    if not nodes:
        return Condition(PROGRAMMED, False, "NoNodes", "no node matches the zone label and nodeSelector")
    if states.ready == states.needed:
        return Condition(PROGRAMMED, True, "Programmed", _describe_complete(states))
    if route.rollout is not None and states.kept_back:
        return _rolling_out(route.rollout, states)
    worst = nodes[0]
    reason = worst.outcome.reason or ("Failing" if states.failed else "Pending")
    message = f"in place on {states.ready} of {states.needed} nodes; {worst.hostname}: {worst.outcome.message}"
    return Condition(PROGRAMMED, False, reason, message)


def _describe_complete(states: NodeStates) -> str:
    gateways = [node.hostname for node in states.first(NAMED_NODES, (NOT_NEEDED,))]
    if not gateways:
        return "in place on every node"
    names = name_some(gateways, NAMED_NODES, total=states.not_needed)
    return f"in place on every node; not needed on {names} (its gateway)"


def _rolling_out(rollout: Rollout, states: NodeStates) -> Condition:
    limit, updated = rollout.limit(states.total), states.total - states.kept_back
    message = f"{updated} of {states.total} nodes updated, at most {limit} unavailable at a time"
    unavailable = states.first(NAMED_NODES, (FAILED, PENDING))
    if not unavailable:
        return Condition(PROGRAMMED, False, ROLLING_OUT, message)
    names = name_some([node.hostname for node in unavailable], NAMED_NODES, total=states.unavailable)
    first = f"{unavailable[0].hostname}: {unavailable[0].outcome.message}"
    if states.unavailable >= limit and states.unavailable == states.failed:
        return Condition(PROGRAMMED, False, "RolloutStopped", f"{message}; not in place on {names}; {first}")
    return Condition(PROGRAMMED, False, ROLLING_OUT, f"{message}; waiting for {names}; {first}")
